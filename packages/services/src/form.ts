// What a value must look like: JSON Schema, or a schema of a library of Standard Schema.

import { KernelError, type Schema, describe, validate } from "@ergos/kernel";

/**
 * A schema of a library of Standard Schema that tells its JSON Schema too, as zod from 4.2 on, ArkType and Valibot's
 * `toStandardJsonSchema` do.
 */
export interface StandardSchema<Output = unknown> {
  readonly "~standard": {
    readonly vendor: string;
    readonly types?: { readonly output: Output } | undefined;
    readonly validate: (value: unknown) => StandardResult<Output> | Promise<StandardResult<Output>>;
    readonly jsonSchema: { readonly input: (options: { readonly target: "draft-2020-12" }) => object };
  };
}

type StandardResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | {
      readonly issues: readonly {
        readonly message: string;
        readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
      }[];
    };

/** A schema as it is sent along, and how a value is taken by it. */
export interface Form<Value = unknown> {
  readonly schema: Schema;
  /** The value as the schema gives it, or why it does not fit. */
  read(value: unknown): Promise<{ readonly value: Value } | { readonly problem: string }>;
}

/** Differences that a message tells. */
const TOLD_MAX = 5;

/** JSON Schema as it is, and no schema of a library. */
export type PlainSchema = Schema & { readonly "~standard"?: never };

/** @throws {EINVAL} a library's schema tells no JSON Schema */
export function toForm<Value>(given: StandardSchema<Value> | PlainSchema): Form<Value> {
  if (!isStandard(given))
    return {
      schema: given,
      read: async (value) => {
        const issues = validate(given, value);
        // Whoever gives a plain schema knows what it means.
        return issues.length === 0 ? { value: value as Value } : { problem: problemOf(issues) };
      },
    };
  const standard = given["~standard"];
  return {
    schema: jsonSchemaOf(standard),
    read: async (value) => {
      const result = await standard.validate(value);
      return result.issues === undefined ? { value: result.value } : { problem: problemOf(result.issues) };
    },
  };
}

function jsonSchemaOf({ vendor, jsonSchema }: StandardSchema["~standard"]): Schema {
  // An older version of its library has none, whatever its types are.
  if (typeof (jsonSchema as unknown) !== "object")
    throw new KernelError(
      "EINVAL",
      `this schema of ${vendor} tells no JSON Schema; take zod from 4.2 on, wrap one of valibot by toStandardJsonSchema, or give JSON Schema, as z.toJSONSchema makes it of one of zod/mini`,
    );
  try {
    const { $schema: _dialect, ...schema } = jsonSchema.input({ target: "draft-2020-12" }) as {
      readonly $schema?: string;
    } & Schema;
    return schema;
  } catch (cause) {
    throw new KernelError("EINVAL", `this schema of ${vendor} tells no JSON Schema: ${describe(cause)}`, { cause });
  }
}

const isStandard = <Value>(given: StandardSchema<Value> | PlainSchema): given is StandardSchema<Value> =>
  given["~standard"] !== undefined;

type Issue = Extract<StandardResult<never>, { readonly issues: readonly unknown[] }>["issues"][number];

const problemOf = (issues: readonly Issue[]): string =>
  issues
    .slice(0, TOLD_MAX)
    .map(({ path = [], message }) => {
      const at = path.map((part) => String(typeof part === "object" ? part.key : part)).join(".");
      return `${at === "" ? "it" : at} ${message}`;
    })
    .join("; ");
