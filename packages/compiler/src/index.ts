// `@ergos/compiler`: manifests to diagnostics and plans.

export { nearest, suggest } from "./nearest.ts";
