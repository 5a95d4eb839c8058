import { h } from "../dom.js";
export const title = "compare";
export function open(root) { root.append(h("h1", {}, "compare")); return { refresh: async () => {} }; }
