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
