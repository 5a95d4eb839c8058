import { h } from "../dom.js";
export const title = "alerts";
export function open(root) { root.append(h("h1", {}, "alerts")); return { refresh: async () => {} }; }
