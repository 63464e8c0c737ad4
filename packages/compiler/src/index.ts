// `@ergos/compiler`: manifests to diagnostics and plans.

export {
  maskSecrets,
  DIAGNOSTICS,
  type Diagnostic,
  type DiagnosticCode,
  type Severity,
  formatDiagnostic,
} from "./diagnostic.ts";
export { type CompilerHost, fileHost } from "./host.ts";
export { MANIFEST_LIMITS } from "./limits.ts";
export { nearest, suggest } from "./nearest.ts";
export { type Compilation, type CompileOptions, compileManifest } from "./pipeline/compile.ts";
export type {
  LlmConfig,
  MountTemplate,
  NodeDocument,
  OutcomeSpec,
  PlanDocument,
  RetrySpec,
  ToolSpec,
  ValueSpec,
} from "./pipeline/document.ts";
export { PLAN_FORMAT, nodesWithin } from "./pipeline/document.ts";
export { revealSecrets, secretValues } from "./source/environment.ts";
export { toMermaid, toSvg } from "./print/graph.ts";
export { toManifest } from "./print/manifest.ts";
export { type Explanation, explain, explainablePaths } from "./schema/explain.ts";
export { manifestJsonSchema } from "./schema/json-schema.ts";
export { type PolicyCompilation, type PolicyDocument, TUPLE, compilePolicy } from "./policy/compile.ts";
