// A conversation with a model that may call tools: it is asked again with what they say until it answers.

import { type InferRequest, KernelError, type ModelMessage, type ModelResponse } from "@ergos/kernel";
import type { InferOptions, RunContext } from "./run-context.ts";

/** `onUnknown` is about the model: asking it again costs, and does nothing else. A call of a tool is not made again. */
export interface ConverseOptions extends InferOptions {
  /** How often the model may be asked, at most. @default 10 */
  readonly turnsMax?: number;
}

export interface Conversation {
  /** The answer that called no tool any more. */
  readonly answer: ModelResponse;
  /** All that was said, the answer last. */
  readonly messages: readonly ModelMessage[];
  /** How many calls of tools were made. */
  readonly calls: number;
}

const TURNS_MAX = 10;

/**
 * Asks a model, makes the calls that it wants with the rights of the process, those of one turn side by side, and asks
 * again with what came of them, until it answers without one. Every turn and every call is a step: a process that goes
 * on after its host was cut off asks and calls nothing twice. Without tools it is one `ctx.infer`. A call of
 * a tool that was not offered is not made, and the model told so.
 * @throws {EPROTO} no answer within `turnsMax` turns · what `infer` throws
 */
export async function converse(
  ctx: Pick<RunContext<never>, "infer" | "answerToolCall">,
  name: string,
  request: InferRequest,
  { turnsMax = TURNS_MAX, ...asking }: ConverseOptions = {},
): Promise<Conversation> {
  if (!Number.isSafeInteger(turnsMax) || turnsMax < 1)
    throw new KernelError("EINVAL", `turnsMax is a whole number of at least 1, found ${turnsMax}`);
  const messages = [...request.messages];
  let calls = 0;
  // A model that must call a tool has done so in its first turn.
  const { toolChoice: first, ...later } = request;
  const rest: InferRequest = first === "none" ? request : later;
  for (let turn = 1; ; turn++) {
    const place = turn === 1 ? name : `${name}/turn${turn}`;
    const answer = await ctx.infer(place, { ...(turn === 1 ? request : rest), messages: [...messages] }, asking);
    const { text, toolCalls } = answer;
    if (toolCalls === undefined || toolCalls.length === 0)
      return { answer, messages: [...messages, { role: "assistant", content: text }], calls };
    // Nobody would hear what comes of these.
    if (turn === turnsMax)
      throw new KernelError(
        "EPROTO",
        `the model has called tools in each of ${turnsMax} turns and has not answered; allow it more turns, or ask for less`,
      );
    messages.push({ role: "assistant", content: text, toolCalls });
    // A model may have read a name somewhere: it has what it was offered.
    const offered = request.tools ?? [];
    const told = toolCalls.map((call, at) => ctx.answerToolCall(`${place}/call${at + 1}`, call, { offered }));
    messages.push(...(await Promise.all(told)));
    calls += toolCalls.length;
  }
}
