// Before anything is drawn, so that a dark page never flashes white.
"use strict";
{
  let chosen = null;
  try { chosen = localStorage.getItem("loadlens-theme"); } catch { /* no storage: the system's theme */ }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
