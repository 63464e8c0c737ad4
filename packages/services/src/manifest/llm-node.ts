// An `llm` node: builds the request, and asks, for a text or where a schema is given for a value of it.

import type { LlmConfig } from "@ergos/compiler";
import type { Scope } from "@ergos/compiler/expression";
import { type InferRequest, type ModelTask, type Schema, isKernelError } from "@ergos/kernel";
import { converse } from "../converse.ts";
import { assertNotHeldBack, generateObject, useless } from "../generate-object.ts";
import type { RunContext } from "../run-context.ts";
import type { Computed, Evaluation } from "./evaluation.ts";

type Run = (scope: Scope, ctx: RunContext<never>) => Promise<unknown>;

export function bindLlm(config: LlmConfig, schema: Schema | undefined, evaluation: Evaluation): Run {
  const makeRequest = bindRequest(config, evaluation);
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
  const { maxTurns, repair } = config;
  const name = `${place}answer`;
  const turns = { ...callOptions(config), ...(maxTurns === undefined ? {} : { turnsMax: maxTurns }) };
  if (schema !== undefined)
    return (await generateObject(ctx, name, request, schema, { ...turns, repairs: repair })).object;
  const { text, finishReason } = (await converse(ctx, name, request, turns)).answer;
  assertNotHeldBack(finishReason);
  if (finishReason === "length")
    await ctx.log(
      `the answer of ${ctx.nodeName} was cut off where it may be no longer; allow more max_output_tokens`,
      "warn",
    );
  if (text === "" && finishReason === "other") throw useless("the model has answered with no text");
  return text;
}

function bindRequest(config: LlmConfig, evaluation: Evaluation): (scope: Scope) => InferRequest {
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
