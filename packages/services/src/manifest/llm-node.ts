// An `llm` node: builds the request, asks, makes the calls of tools that the model wants, and where a schema is given
// takes the JSON out of the answer, telling a model that answered with something else what was wrong.

import type { LlmConfig } from "@ergos/compiler";
import type { Scope } from "@ergos/compiler/expression";
import { type InferRequest, KernelError, isKernelError, type ModelTask, type Schema, validate } from "@ergos/kernel";
import { converse } from "../converse.ts";
import type { RunContext } from "../run-context.ts";
import type { Computed, Evaluation } from "./evaluation.ts";

type Run = (scope: Scope, ctx: RunContext<never>) => Promise<unknown>;

export function bindLlm(config: LlmConfig, schema: Schema | undefined, evaluation: Evaluation): Run {
  const makeRequest = bindRequest(config, schema, evaluation);
  return async (scope, ctx) => {
    const request = makeRequest(scope);
    // What was said before is said again, and goes on where it broke off. One that came to no use is over, whoever has
    // had it: each attempt has one of its own.
    for (let conversation = 1; ; conversation++) {
      const place = conversation === 1 ? "" : `again${conversation}/`;
      const isKnown = ctx.hasOutcome(`${place}answer`);
      try {
        return await askForOutput(ctx, place, request, schema, config);
      } catch (error) {
        // What came to no use may be asked for anew, also what came to no answer at all.
        if (!isKernelError(error) || error.code !== "EPROTO" || !isKnown) throw error;
      }
    }
  };
}

/** A model has answered, and nothing can be made of it. */
const useless = (message: string): KernelError => new KernelError("EPROTO", message);

/** Options of the calls of a model or a tool. */
export const callOptions = ({ onUnknown }: { readonly onUnknown?: "repeat" }): { readonly onUnknown?: "repeat" } =>
  onUnknown === undefined ? {} : { onUnknown };

/** The text of an answer, or its value; a model that gave none is told so and asked again, at most `repair` times. */
async function askForOutput(
  ctx: RunContext<never>,
  place: string,
  request: InferRequest,
  schema: Schema | undefined,
  config: LlmConfig,
): Promise<unknown> {
  let { messages } = request;
  const { maxTurns } = config;
  const turns = { ...callOptions(config), ...(maxTurns === undefined ? {} : { turnsMax: maxTurns }) };
  for (let again = 0; ; again++) {
    const name = `${place}${again === 0 ? "answer" : `repair${again}`}`;
    const said = await converse(ctx, name, { ...request, messages }, turns);
    const { text: answer, finishReason } = said.answer;
    if (finishReason === "filter")
      throw useless("the answer was held back by whoever runs the model; ask in another way");
    if (schema === undefined) {
      if (answer === "" && finishReason === "other") throw useless("the model has answered with no text");
      return answer;
    }
    const read = readAnswer(answer, schema);
    if ("value" in read) return read.value;
    // Asked once more it would be as long.
    if (finishReason === "length")
      throw useless(
        `the answer was cut off where it may be no longer${config.maxOutputTokens === undefined ? "" : ` (max_output_tokens: ${config.maxOutputTokens})`}, and what there is does not fit output_schema; allow a longer one, or ask for less`,
      );
    if (again >= config.repair) {
      const shown = answer.length > 200 ? `${answer.slice(0, 200)}…` : answer;
      throw useless(
        `the model does not answer with JSON of output_schema: ${read.problem}; it said ${JSON.stringify(shown)}`,
      );
    }
    messages = [
      ...said.messages,
      {
        role: "user",
        content: `Your answer cannot be used: ${read.problem}. Answer again with JSON that fits this schema, and nothing else: ${JSON.stringify(schema)}`,
      },
    ];
  }
}

function readAnswer(text: string, schema: Schema): { readonly value: unknown } | { readonly problem: string } {
  // Models like to wrap JSON in a fence.
  const plain = text.replace(/^\uFEFF/, "");
  const fenced = /^\s*```(?:json)?\s*\n([^]*?)\n\s*```\s*$/i.exec(plain);
  let value: unknown;
  try {
    value = JSON.parse(fenced?.[1] ?? plain) as unknown;
  } catch {
    if (schema.type !== "string") return { problem: "it is no JSON" };
  }
  // A text need not be quoted, whatever it looks like.
  if (schema.type === "string" && typeof value !== "string") value = text.trim();
  const issues = validate(schema, value);
  if (issues.length === 0) return { value };
  return {
    problem: issues
      .slice(0, 5)
      .map(({ path, message }) => `${path.join(".") || "it"} ${message}`)
      .join("; "),
  };
}

function bindRequest(
  config: LlmConfig,
  schema: Schema | undefined,
  evaluation: Evaluation,
): (scope: Scope) => InferRequest {
  const optional = (text: string | undefined, field: string): Computed<string> | undefined =>
    text === undefined ? undefined : evaluation.template(text, field);
  const [model, system, prompt] = [
    optional(config.model, "model"),
    optional(config.system, "system"),
    optional(config.prompt, "prompt"),
  ];
  const messages = config.messages?.map(({ role, content }, at) => ({
    role,
    content: evaluation.template(content, `messages[${at}]`),
  }));
  const makeTask = config.task === undefined ? undefined : bindTask(config.task, evaluation);
  const { tools, temperature, topP, maxOutputTokens, stop, seed } = config;
  const fixed = {
    ...(tools === undefined ? {} : { tools }),
    ...(temperature === undefined ? {} : { temperature }),
    ...(topP === undefined ? {} : { topP }),
    ...(maxOutputTokens === undefined ? {} : { maxOutputTokens }),
    ...(stop === undefined ? {} : { stop }),
    ...(seed === undefined ? {} : { seed }),
    ...(schema === undefined ? {} : { responseSchema: schema }),
  };
  return (scope) => ({
    ...(model === undefined ? {} : { model: model(scope) }),
    messages: [
      ...(system === undefined ? [] : [{ role: "system" as const, content: system(scope) }]),
      ...(messages ?? []).map(({ role, content }) => ({ role, content: content(scope) })),
      ...(prompt === undefined ? [] : [{ role: "user" as const, content: prompt(scope) }]),
    ],
    ...fixed,
    ...(makeTask === undefined ? {} : { task: makeTask(scope) }),
  });
}

function bindTask(task: NonNullable<LlmConfig["task"]>, evaluation: Evaluation): Computed<ModelTask> {
  const text = evaluation.template(task.text, "task.text");
  if (task.kind === "summarise")
    return (scope) => ({ kind: "summarise", sentences: task.sentences ?? 2, text: text(scope) });
  const { labels = [] } = task;
  const list: Computed =
    typeof labels === "string"
      ? evaluation.expression(labels, "task.labels")
      : evaluation.value(
          labels.map((label) => ({ $template: label })),
          "task.labels",
        );
  return (scope) => {
    const found = list(scope);
    return { kind: "classify", labels: Array.isArray(found) ? found.map(String) : [], text: text(scope) };
  };
}
