// Writes `docs/reference/manifest.md` and `docs/reference/policy.md` from the fields of manifests.
//
//   node --conditions=@ergos/source tools/manifest-reference.ts

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Explanation, explain, explainablePaths } from "@ergos/compiler";

export const MANIFEST_FILE: string = join(import.meta.dirname, "../docs/reference/manifest.md");
export const POLICY_FILE: string = join(import.meta.dirname, "../docs/reference/policy.md");

const POLICY_HEAD = `# Policy manifest

Every field of \`kind: Policy\`, which \`policy.yaml\` in a data directory is; \`ergos explain policy.PATH\` shows the same. Fields marked * are required. What policies are for stands in [the guide](../guide/rights.md).
`;

const HEAD = `# Pipeline manifest

Every field of \`kind: Pipeline\`; \`ergos explain PATH\` shows the same. Fields marked * are required. An *expression* is [a bare expression](expressions.md), a *template* a text with \`{{ … }}\` in it. \`\${NAME}\` and \`\${NAME:default}\` are replaced by the environment (\`$\${NAME}\` is that text itself); names that look like secrets (\`…_KEY\`, \`…_TOKEN\`, \`…_PASSWORD\`) are filled in only when a node runs. \`!include ./part.yaml\` and \`!include ./parts.yaml#path.in.it\` put another file, or a part of one, in its place; a file that is neither YAML nor JSON, as \`!include ./prompt.md\`, is its text.
`;

/** Objects with a table each, by their paths. */
const SECTIONS: readonly (readonly [string, string])[] = [
  ["Manifest", "pipeline"],
  ["Metadata", "pipeline.metadata"],
  ["Spec", "pipeline.spec"],
  ["Defaults", "pipeline.spec.defaults"],
  ["Limits", "pipeline.spec.limits"],
  ["Rate", "pipeline.spec.limits.rates"],
  ["Mount", "pipeline.spec.mounts"],
  ["Tool", "pipeline.spec.tools"],
  ["Every node", "pipeline.spec.nodes"],
  ["kind: function", "pipeline.spec.nodes.function"],
  ["kind: expression", "pipeline.spec.nodes.expression"],
  ["kind: llm", "pipeline.spec.nodes.llm"],
  ["kind: tool", "pipeline.spec.nodes.tool"],
  ["kind: map", "pipeline.spec.nodes.map"],
  ["kind: branch", "pipeline.spec.nodes.branch"],
  ["Case", "pipeline.spec.nodes.branch.cases"],
  ["Else", "pipeline.spec.nodes.branch.else"],
  ["Message", "pipeline.spec.nodes.llm.messages"],
  ["Task", "pipeline.spec.nodes.llm.task"],
  ["Retry", "pipeline.spec.nodes.retry"],
  ["On error", "pipeline.spec.nodes.on_error"],
];

const POLICY_SECTIONS: typeof SECTIONS = [
  ["Manifest", "policy"],
  ["Metadata", "policy.metadata"],
  ["Spec", "policy.spec"],
  ["Rule", "policy.spec.rules"],
  ["Relations", "policy.spec.relations"],
  ["Check", "policy.spec.relations.checks"],
];

/** Paths of objects that have no table, for the test that there are none. */
export function sectionless(): readonly string[] {
  const all = [...SECTIONS, ...POLICY_SECTIONS].map(([, path]) => path);
  // What stands in several places has its table where it stands first.
  const docs = new Set(all.map((path) => fieldsOf(path).join()));
  return explainablePaths().filter((path) => fieldsOf(path).length > 0 && !docs.has(fieldsOf(path).join()));
}

function fieldsOf(path: string): readonly string[] {
  const found = explain(path);
  return "unknown" in found ? [] : found.fields.map(({ name }) => name);
}

/** The page of pipelines. */
export const manifestReference = (): string => pageOf(HEAD, SECTIONS);

/** The page of policies. */
export const policyReference = (): string => pageOf(POLICY_HEAD, POLICY_SECTIONS);

const pageOf = (head: string, sections: typeof SECTIONS): string =>
  `${head}\n${sections.map(([title, path]) => section(title, path)).join("\n\n")}\n`;

function section(title: string, path: string): string {
  const found = explain(path);
  if ("unknown" in found) throw new TypeError(`there is no ${path}`);
  const rows = found.fields.filter(({ type }) => !type.startsWith("kind: ")).map((field) => row(path, field));
  return [`## ${title}`, "", found.doc, "", "| field | type | meaning |", "| --- | --- | --- |", ...rows].join("\n");
}

function row(path: string, field: Explanation["fields"][number]): string {
  const more = explain(`${path}.${field.name}`);
  const otherwise = field.otherwise === undefined ? "" : ` Default: ${field.otherwise}.`;
  const example = "unknown" in more || more.example === undefined ? "" : ` Example: \`${more.example}\`.`;
  return `| \`${field.name}\`${field.required ? "*" : ""} | ${cell(field.type)} | ${cell(field.doc + otherwise + example)} |`;
}

const cell = (text: string): string => text.replaceAll("|", "\\|");

if (import.meta.main) {
  writeFileSync(MANIFEST_FILE, manifestReference());
  writeFileSync(POLICY_FILE, policyReference());
}
