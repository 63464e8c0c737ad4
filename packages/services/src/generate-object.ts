// Answers of models that are values of a schema: taken out of the text, checked, and asked for again where they do not fit.

import { type InferRequest, KernelError } from "@ergos/kernel";
import { type Conversation, type ConverseOptions, converse } from "./converse.ts";
import { type Form, type PlainSchema, type StandardSchema, toForm } from "./form.ts";
import type { RunContext } from "./run-context.ts";

export interface GenerateOptions extends ConverseOptions {
  /** How often a model whose answer does not fit is told why and asked again. @default 1 */
  readonly repairs?: number;
}

export interface Generated<Value = unknown> extends Conversation {
  /** What the last answer says, as the schema gives it. */
  readonly object: Value;
}

/** Text of an answer that an error shows, in UTF-16 units. */
const SHOWN_MAX = 200;

/**
 * Asks a model for a value of a schema, with tools if the request offers some, as `converse` does; an answer that does not
 * fit is told to the model, which is asked again. Each question is a step, and recorded. With a schema of zod, or another
 * library of Standard Schema, the value has its type.
 * @throws {EPROTO} no answer fits, the last was cut off, or held back · what `converse` throws
 */
export async function generateObject<Value = unknown>(
  ctx: Pick<RunContext<never>, "infer" | "answerToolCall">,
  name: string,
  request: InferRequest | string,
  schema: StandardSchema<Value> | PlainSchema,
  { repairs = 1, ...asking }: GenerateOptions = {},
): Promise<Generated<Value>> {
  if (!Number.isSafeInteger(repairs) || repairs < 0)
    throw new KernelError("EINVAL", `repairs is a whole number of at least 0, found ${repairs}`);
  const form = toForm(schema);
  const first: InferRequest =
    typeof request === "string" ? { messages: [{ role: "user", content: request }] } : request;
  let { messages } = first;
  let calls = 0;
  for (let again = 0; ; again++) {
    const place = again === 0 ? name : `${name}/repair${again}`;
    const said = await converse(ctx, place, { ...first, responseSchema: form.schema, messages }, asking);
    calls += said.calls;
    const { text, finishReason } = said.answer;
    assertNotHeldBack(finishReason);
    const read = await readText(text, form);
    if ("value" in read) return { ...said, calls, object: read.value };
    // Asked once more it would be as long.
    if (finishReason === "length")
      throw useless(
        `the answer was cut off where it may be no longer${first.maxOutputTokens === undefined ? "" : ` (${first.maxOutputTokens} tokens)`}, and what there is does not fit the schema; allow a longer one, or ask for less`,
      );
    if (again >= repairs) {
      const shown = text.length > SHOWN_MAX ? `${text.slice(0, SHOWN_MAX)}…` : text;
      throw useless(
        `the model does not answer with JSON of the schema: ${read.problem}; it said ${JSON.stringify(shown)}`,
      );
    }
    messages = [
      ...said.messages,
      {
        role: "user",
        content: `Your answer cannot be used: ${read.problem}. Answer again with JSON that fits this schema, and nothing else: ${JSON.stringify(form.schema)}`,
      },
    ];
  }
}

/** A model has answered, and nothing can be made of it. */
export const useless = (message: string): KernelError => new KernelError("EPROTO", message);

/** @throws {EPROTO} whoever runs the model has kept the answer back */
export function assertNotHeldBack(finishReason: string): void {
  if (finishReason === "filter")
    throw useless("the answer was held back by whoever runs the model; ask in another way");
}

async function readText<Value>(text: string, form: Form<Value>): ReturnType<Form<Value>["read"]> {
  // Models like to wrap JSON in a fence.
  const plain = text.replace(/^\uFEFF/, "");
  const fenced = /^\s*```(?:json)?\s*\n([^]*?)\n\s*```\s*$/i.exec(plain);
  const isText = form.schema.type === "string";
  let value: unknown;
  try {
    value = JSON.parse(fenced?.[1] ?? plain) as unknown;
  } catch {
    if (!isText) return { problem: "it is no JSON" };
  }
  // A text need not be quoted, whatever it looks like.
  return form.read(isText && typeof value !== "string" ? text.trim() : value);
}
