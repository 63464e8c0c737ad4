// Writes `docs/reference/manifest.md` from the fields of manifests.
//
//   node --conditions=@ergos/source tools/manifest-reference.ts

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Explanation, explain } from "@ergos/compiler";

export const MANIFEST_FILE: string = join(import.meta.dirname, "../docs/reference/manifest.md");

const HEAD = `# Pipeline manifest

Every field of \`kind: Pipeline\`; \`ergos explain PATH\` shows the same. Fields marked * are required. An *expression* is [a bare expression](expressions.md), a *template* a text with \`{{ … }}\` in it. \`\${NAME}\` and \`\${NAME:default}\` are replaced by the environment; names that look like secrets (\`…_KEY\`, \`…_TOKEN\`, \`…_PASSWORD\`) are filled in only when a node runs. \`!include ./part.yaml\` and \`!include ./parts.yaml#path.in.it\` put another file in its place.
`;

/** Objects with a table each, by their paths. */
const SECTIONS: readonly (readonly [string, string])[] = [
  ["Manifest", "pipeline"],
  ["Metadata", "pipeline.metadata"],
  ["Spec", "pipeline.spec"],
  ["Defaults", "pipeline.spec.defaults"],
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
  ["Message", "pipeline.spec.nodes.llm.messages"],
  ["Task", "pipeline.spec.nodes.llm.task"],
  ["Retry", "pipeline.spec.nodes.retry"],
  ["On error", "pipeline.spec.nodes.on_error"],
];

/** The page. */
export function manifestReference(): string {
  return `${HEAD}\n${SECTIONS.map(([title, path]) => section(title, path)).join("\n\n")}\n`;
}

function section(title: string, path: string): string {
  const found = explain(path);
  if ("unknown" in found) throw new TypeError(`there is no ${path}`);
  const rows = found.fields.filter(({ type }) => !type.startsWith("kind: ")).map((field) => row(path, field));
  return [`## ${title}`, "", found.doc, "", "| field | type | meaning |", "| --- | --- | --- |", ...rows].join("\n");
}

function row(path: string, field: Explanation["fields"][number]): string {
  const more = explain(`${path}.${field.name}`);
  const otherwise = "unknown" in more || more.otherwise === undefined ? "" : ` Default: ${more.otherwise}.`;
  const example = "unknown" in more || more.example === undefined ? "" : ` Example: \`${more.example}\`.`;
  return `| \`${field.name}\`${field.required ? "*" : ""} | ${cell(field.type)} | ${cell(field.doc + otherwise + example)} |`;
}

const cell = (text: string): string => text.replaceAll("|", "\\|");

if (import.meta.main) writeFileSync(MANIFEST_FILE, manifestReference());
