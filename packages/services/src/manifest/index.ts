// `@ergos/services/manifest`: manifests bound to code. A part of its own: programs in code start without the compiler.

export { type BindOptions, bindManifest, type ManifestProgram } from "./bind.ts";
export { describePlan } from "./describe.ts";
