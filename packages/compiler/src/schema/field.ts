// How fields are described: once, for validation, JSON Schema, `ergos explain` and the reference.

export type FieldType =
  | { readonly type: "text"; readonly pattern?: RegExp; readonly what?: string }
  | { readonly type: "integer" | "number"; readonly minimum?: number; readonly maximum?: number }
  | { readonly type: "boolean" }
  /** Milliseconds, or a number with a unit: `30s`, `5m`, `1h`, `2d`. */
  | { readonly type: "duration"; readonly zero?: true; readonly none?: true }
  | { readonly type: "enum"; readonly values: readonly string[] }
  /** A bare expression; numbers and booleans stand for themselves. */
  | { readonly type: "expression" }
  /** A text with `{{ … }}` in it. */
  | { readonly type: "template" }
  /** Any value; its texts are bare expressions. */
  | { readonly type: "expressions" }
  /** Any value; its texts are templates. */
  | { readonly type: "templates" }
  /** A JSON Schema of the subset that the kernel checks. */
  | { readonly type: "schema" }
  /** Any value. */
  | { readonly type: "any" }
  | { readonly type: "list"; readonly items: FieldType; readonly minItems?: number; readonly single?: boolean }
  | { readonly type: "map"; readonly values: FieldType }
  | { readonly type: "object"; readonly name: string }
  /** One node, by its `kind`. */
  | { readonly type: "node" }
  /** One node without a name, or a list of nodes. */
  | { readonly type: "body" }
  /** The first option of the value's shape. */
  | { readonly type: "either"; readonly options: readonly FieldType[] };

export interface Field {
  readonly type: FieldType;
  readonly required?: boolean;
  /** One or two sentences. */
  readonly doc: string;
  /** What an absent field means. */
  readonly otherwise?: string;
  readonly example?: string;
}

export type Fields = Readonly<Record<string, Field>>;

/** Groups of fields of which one, or at most one, may be set. */
export interface Choice {
  readonly fields: readonly string[];
  readonly required: boolean;
}

export interface ObjectSpec {
  readonly doc: string;
  readonly fields: Fields;
  readonly choices?: readonly Choice[];
}

/** What people call a type. */
export function typeLabel(type: FieldType): string {
  switch (type.type) {
    case "text":
      return type.what ?? "text";
    case "enum":
      return type.values.join(" | ");
    case "list":
      return `list of ${typeLabel(type.items)}${type.single === true ? ", or one alone" : ""}`;
    case "map":
      return `mapping of names to ${typeLabel(type.values)}`;
    case "object":
      return type.name;
    case "either":
      return type.options.map(typeLabel).join(" or ");
    case "duration":
      return `duration (30s, 5m, or milliseconds${type.none === true ? ", or none" : ""})`;
    case "expressions":
      return "values whose texts are expressions";
    case "templates":
      return "values whose texts are templates";
    case "schema":
      return "JSON Schema";
    case "node":
      return "node";
    case "body":
      return "node without a name, or list of nodes";
    case "any":
      return "any value";
    case "integer":
    case "number":
    case "boolean":
    case "expression":
    case "template":
      return type.type;
    default:
      return type satisfies never;
  }
}
