// Before anything is drawn, so that a dark page never flashes white.
"use strict";
{
  let chosen = null;
  try { chosen = localStorage.getItem("loadlens-theme"); } catch { /* no storage: the system's theme */ }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
// Dates take more room than a length of time: before the page is painted, so that nothing moves.
if (new URLSearchParams(location.search).has("from")) document.documentElement.setAttribute("data-absolute", "");
