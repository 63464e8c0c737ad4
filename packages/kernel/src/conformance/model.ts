// The law of `Model` (abi/model.ts) as cases, over one that answers every prompt with a text.

import type { Model, ModelCall, ModelRequest } from "../abi/model.ts";
import { KernelError, isKernelError } from "../base/errno.ts";
import { type ConformanceCase, same } from "./case.ts";

const ASK: ModelRequest = { messages: [{ role: "user", content: "The sky is blue. Grass is green. What is blue?" }] };
const call = (more: Partial<ModelCall> = {}): ModelCall => ({
  signal: new AbortController().signal,
  idempotencyKey: "conformance/1",
  ...more,
});

export const MODEL_CASES: readonly ConformanceCase<Model>[] = [
  {
    name: "it says what it is, what a call does to the world, and whether it answers",
    run: async (model) => {
      same([model.name === "", model.description === ""], [false, false], "an empty name or description");
      same(["pure", "idempotent", "once"].includes(model.effect), true, `effect ${model.effect}`);
      const { ok, detail } = await model.health();
      same([typeof ok, typeof detail], ["boolean", "string"], "its health");
    },
  },
  {
    name: "an answer has a text, a reason why it ended, and what it took",
    run: async (model) => {
      const { text, finishReason, usage } = await model.infer(ASK, call());
      same(text.length > 0, true, "a text");
      same(["stop", "length", "filter", "other"].includes(finishReason), true, `reason ${finishReason}`);
      for (const amount of [usage.inputTokens, usage.outputTokens])
        same(Number.isSafeInteger(amount) && amount > 0, true, `${amount} tokens`);
    },
  },
  {
    name: "whoever listens hears the whole text, piece by piece, in its order",
    run: async (model) => {
      const pieces: string[] = [];
      const { text } = await model.infer(ASK, call({ onText: (piece) => pieces.push(piece) }));
      same(pieces.join(""), text, "what was heard");
    },
  },
  {
    name: "a conversation with tools goes on: what came of a call leads to an answer, and none is asked for that may not be",
    run: async (model) => {
      const call1 = { id: "call-1", name: "lib.weather", arguments: '{"city":"Bern"}' };
      const { text, toolCalls } = await model.infer(
        {
          messages: [
            { role: "user", content: "How is the weather in Bern? Use lib.weather." },
            { role: "assistant", content: "", toolCalls: [call1] },
            { role: "tool", callId: "call-1", content: "It rains in Bern." },
          ],
          tools: [
            {
              name: "lib.weather",
              description: "the weather of a city",
              inputSchema: { type: "object", properties: { city: { type: "string" } } },
            },
          ],
          toolChoice: "none",
        },
        call(),
      );
      same([text.length > 0, toolCalls], [true, undefined], "a text, and calls of tools");
    },
  },
  {
    name: "one that is told to stop rejects with the reason, before and while it works",
    run: async (model) => {
      for (const isEarly of [true, false]) {
        const stop = new AbortController();
        const reason = new KernelError("ECANCELED", "the case has changed its mind");
        if (isEarly) stop.abort(reason);
        const asked = model.infer(ASK, call({ signal: stop.signal })).then(
          () => undefined,
          (error: unknown) => error,
        );
        stop.abort(reason);
        const error = await asked;
        // One that was as good as done may have answered.
        if (error === undefined && !isEarly) continue;
        same(isKernelError(error) && error.code, "ECANCELED", isEarly ? "told before" : "told meanwhile");
      }
    },
  },
  {
    name: "calls at the same time do not know of each other",
    run: async (model) => {
      const heard = Array.from({ length: 8 }, () => "");
      const answers = await Promise.all(
        heard.map((_, at) =>
          model.infer(ASK, call({ idempotencyKey: `conformance/${at}`, onText: (piece) => (heard[at] += piece) })),
        ),
      );
      same(
        heard,
        answers.map(({ text }) => text),
        "what each has heard",
      );
    },
  },
];
