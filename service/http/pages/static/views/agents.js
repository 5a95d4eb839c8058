import { h } from "../dom.js";
export const title = "agents";
export function open(root) { root.append(h("h1", {}, "agents")); return { refresh: async () => {} }; }
