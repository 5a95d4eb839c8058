import { h } from "../dom.js";
export const title = "reports";
export function open(root) { root.append(h("h1", {}, "reports")); return { refresh: async () => {} }; }
