// The `ai` package: one call of a model that answers at once.
import { generateText } from "ai";
import { MockLanguageModelV4 } from "ai/test";

export function ask() {
  const model = new MockLanguageModelV4({
    doGenerate: async () => ({
      content: [{ type: "text", text: "answer" }],
      finishReason: { unified: "stop", raw: "stop" },
      usage: { inputTokens: { total: 1 }, outputTokens: { total: 1 } },
      warnings: [],
    }),
  });
  return () => generateText({ model, prompt: "question" });
}
