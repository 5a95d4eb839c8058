import { h } from "../dom.js";
export const title = "host";
export function open(root) { root.append(h("h1", {}, "host")); return { refresh: async () => {} }; }
