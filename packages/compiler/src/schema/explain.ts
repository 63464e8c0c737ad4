// `ergos explain pipeline.spec.nodes.llm.prompt`: what a field is, from the same fields as everything else.

import { suggest } from "../nearest.ts";
import { type Field, type FieldType, type Fields, type ObjectSpec, typeLabel } from "./field.ts";
import { COMMON_NODE_FIELDS, NODE_KINDS, NODE_SPECS, OBJECT_SPECS, isNodeKind } from "./pipeline-fields.ts";

export interface Explanation {
  readonly path: string;
  readonly type: string;
  readonly required: boolean;
  readonly doc: string;
  readonly otherwise?: string;
  readonly example?: string;
  /** Fields below it, with a sentence each. */
  readonly fields: readonly {
    readonly name: string;
    readonly type: string;
    readonly required: boolean;
    readonly doc: string;
    readonly otherwise?: string;
  }[];
}

/** What paths begin with: the kinds of manifests. */
const ROOTS = ["pipeline", "policy"] as const;

interface Level {
  readonly doc: string;
  readonly fields: Fields;
  /** Kinds of nodes, chosen as if they were fields. */
  readonly kinds?: boolean;
}

const NODE_LEVEL: Level = {
  doc: "A node. Each kind has fields of its own beside these.",
  fields: COMMON_NODE_FIELDS,
  kinds: true,
};

/** Explains the field at a path, beginning with `pipeline` or `policy`. */
export function explain(path: string): Explanation | { readonly unknown: string; readonly hint: string | undefined } {
  if (/^(?:pipeline|policy)(?:\.|$)/.test(path)) return explainFrom(path);
  // A path may begin further down: `spec.nodes`, `nodes.llm`, `llm`.
  for (const prefix of ["pipeline", "pipeline.spec", "pipeline.spec.nodes"]) {
    const found = explainFrom(`${prefix}.${path}`);
    if (!("unknown" in found)) return found;
  }
  return explainFrom(path);
}

function explainFrom(path: string): Explanation | { readonly unknown: string; readonly hint: string | undefined } {
  const parts = path.split(".").filter((part) => part !== "" && !/^\d+$/.test(part));
  const [root = "pipeline", ...rest] = parts;
  if (!ROOTS.some((known) => known === root)) return { unknown: root, hint: suggest(root, ROOTS) };
  let level: Level | undefined = OBJECT_SPECS[root];
  let field: Field | undefined;
  let type: FieldType | undefined = { type: "object", name: root };
  const walked = [root];
  for (const part of rest) {
    const known = choices(level);
    if (level?.kinds === true && isNodeKind(part)) {
      const spec = NODE_SPECS[part];
      level = { ...spec, fields: { ...COMMON_NODE_FIELDS, ...spec.fields } };
      [field, type] = [undefined, undefined];
    } else {
      field = level !== undefined && Object.hasOwn(level.fields, part) ? level.fields[part] : undefined;
      if (field === undefined) return { unknown: [...walked, part].join("."), hint: suggest(part, known) };
      ({ type } = field);
      level = levelOf(type);
    }
    walked.push(part);
  }
  return {
    path: walked.join("."),
    type: type === undefined ? "node" : typeLabel(type),
    required: field?.required === true,
    doc: field?.doc ?? level?.doc ?? "",
    ...(field?.otherwise === undefined ? {} : { otherwise: field.otherwise }),
    ...(field?.example === undefined ? {} : { example: field.example }),
    fields: below(level),
  };
}

function choices(level: Level | undefined): readonly string[] {
  return level === undefined ? [] : [...Object.keys(level.fields), ...(level.kinds === true ? NODE_KINDS : [])];
}

function below(level: Level | undefined): Explanation["fields"] {
  if (level === undefined) return [];
  const fields = Object.entries(level.fields).map(([name, { type, required, doc, otherwise }]) => ({
    name,
    type: typeLabel(type),
    required: required === true,
    doc,
    ...(otherwise === undefined ? {} : { otherwise }),
  }));
  if (level.kinds !== true) return fields;
  return [
    ...fields,
    ...NODE_KINDS.map((kind) => ({ name: kind, type: `kind: ${kind}`, required: false, doc: NODE_SPECS[kind].doc })),
  ];
}

/** What stands below a value of a type, through lists and mappings. */
function levelOf(type: FieldType): ObjectSpec | Level | undefined {
  if (type.type === "object") return OBJECT_SPECS[type.name];
  if (type.type === "node" || type.type === "body") return NODE_LEVEL;
  if (type.type === "list") return levelOf(type.items);
  if (type.type === "map") return levelOf(type.values);
  if (type.type === "either") return type.options.map(levelOf).find((level) => level !== undefined);
  return undefined;
}

/** Paths of all fields, for the reference and for tests. */
export function explainablePaths(): readonly string[] {
  const out: string[] = [];
  const visit = (path: string, depth: number): void => {
    out.push(path);
    const found = explain(path);
    if ("unknown" in found || depth > 6) return;
    for (const { name } of found.fields) {
      // A body holds nodes, which hold bodies: once is enough.
      if (/\.(body|on_error|nodes)\..*\.(body|on_error)$/.test(`${path}.${name}`)) continue;
      visit(`${path}.${name}`, depth + 1);
    }
  };
  for (const root of ROOTS) visit(root, 0);
  return out;
}
