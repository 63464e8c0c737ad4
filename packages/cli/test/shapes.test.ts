// Shapes that others write pipelines in (a conversation with a condition, a diamond, map and reduce, a router,
// an order), as ergos/v1 manifests, with scripted models.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ModelRequest, connect, createOfflineModel } from "ergos";
import { afterEach, beforeEach, expect, test } from "vitest";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "ergos-shapes-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

async function run(
  spec: string,
  input: unknown,
  script: (request: ModelRequest) => string,
  modules: Record<string, string> = {},
): Promise<{ readonly result: unknown; readonly prompts: readonly string[] }> {
  const module = join(dir, "pipeline.yaml");
  writeFileSync(module, `apiVersion: ergos/v1\nkind: Pipeline\nmetadata: { name: shape }\nspec:\n${spec}`);
  for (const [name, text] of Object.entries(modules)) writeFileSync(join(dir, name), text);
  const prompts: string[] = [];
  const model = createOfflineModel({
    script: (request) => {
      const prompt = request.messages.at(-1)?.content ?? "";
      prompts.push(prompt);
      return script(request);
    },
  });
  await using os = await connect({ models: [model] });
  return { result: await os.run({ module }, { input }), prompts };
}

test("a conversation that ends at a threshold", async () => {
  const spec = `  nodes:
    - name: chatbot
      kind: llm
      temperature: 0.7
      prompt: |
        You are a helpful assistant.

        {% if input.messages %}
        Conversation history:
        {% for msg in input.messages %}
        {{ msg.role }}: {{ msg.content }}
        {% endfor %}
        {% endif %}

        User: {{ input.user_input }}
    - name: threshold_check
      kind: branch
      cases:
        - { when: input.messages | length > 5, value: "'end'" }
      else: { value: "'chatbot'" }
  output: { answer: chatbot, next: threshold_check }
`;
  const messages = Array.from({ length: 6 }, (_, at) => ({
    role: at % 2 === 0 ? "user" : "assistant",
    content: `line ${at}`,
  }));

  const short = await run(spec, { user_input: "hi", messages: [] }, () => "hello");
  expect(short.result).toEqual({ answer: "hello", next: "chatbot" });
  expect(short.prompts[0]).not.toContain("Conversation history");
  const long = await run(spec, { user_input: "bye", messages }, () => "goodbye");
  expect(long.result).toEqual({ answer: "goodbye", next: "end" });
  expect(long.prompts[0]).toContain("assistant: line 5");
});

test("a diamond of two analyses", async () => {
  const { result, prompts } = await run(
    `  nodes:
    - { name: data_source, kind: function, module: ./copy.ts }
    - { name: analyzer_a, kind: llm, prompt: "Analyze aspect A of the data: {{ data_source }}" }
    - { name: analyzer_b, kind: llm, prompt: "Analyze aspect B of the data: {{ data_source }}" }
    - { name: aggregator, kind: function, module: ./copy.ts, dependencies: [analyzer_a, analyzer_b] }
`,
    { topic: "boats" },
    (request) => ((request.messages[0]?.content ?? "").includes("aspect A") ? "a" : "b"),
    { "copy.ts": "export default (input: unknown) => structuredClone(input);" },
  );
  expect(result).toEqual({ analyzer_a: "a", analyzer_b: "b" });
  expect(prompts.toSorted()[0]).toBe('Analyze aspect A of the data: {"topic": "boats"}');
});

test("map and reduce over a list", async () => {
  const { result } = await run(
    `  input_schema: { type: object, properties: { items: { type: array, items: { type: string } } }, required: [items] }
  nodes:
    - name: process_items
      kind: map
      items: input.items
      body: { kind: llm, prompt: "Process {{ item }}" }
    - name: aggregate
      kind: expression
      expressions: { total_items: process_items | length, summary: process_items | join('; ') }
      output_schema: { type: object, properties: { summary: { type: string }, total_items: { type: integer } } }
`,
    { items: ["one", "two", "three"] },
    (request) => `done: ${(request.messages[0]?.content ?? "").replace("Process ", "")}`,
  );
  expect(result).toEqual({ total_items: 3, summary: "done: one; done: two; done: three" });
});

test("a router with a desk for each domain", async () => {
  const spec = `  nodes:
    - { name: classify_query, kind: llm, prompt: "Domain of: {{ input.query }}", output_schema: { type: string, enum: [finance, hr, marketing, general] } }
    - name: handle_query
      kind: branch
      cases:
        - { when: classify_query == 'finance', body: { kind: llm, system: You are in finance., prompt: "{{ input.query }}" } }
        - { when: classify_query == 'hr', body: { kind: llm, system: You are in HR., prompt: "{{ input.query }}" } }
      else: { body: { kind: llm, system: You know a bit of everything., prompt: "{{ input.query }}" } }
`;
  const script = (request: ModelRequest): string => {
    const [first] = request.messages;
    if (first?.role === "system") return first.content;
    return (first?.content ?? "").includes("tax") ? "finance" : '"general"';
  };
  expect((await run(spec, { query: "tax" }, script)).result).toBe("You are in finance.");
  expect((await run(spec, { query: "weather" }, script)).result).toBe("You know a bit of everything.");
});

test("an order that is validated before it is fulfilled", async () => {
  const spec = `  nodes:
    - name: payment_validator
      kind: llm
      prompt: |
        Validate payment for order {{ input.order_id }} from customer {{ input.customer_id }}.
        Amount: \${{ input.amount }}
      output_schema: { type: object, properties: { approved: { type: boolean }, reason: { type: string } }, required: [approved] }
    - name: fulfillment_processor
      kind: llm
      when: payment_validator.approved
      prompt: "Process fulfillment for order {{ input.order_id }}."
      output_schema: { type: object, properties: { status: { type: string }, tracking_id: { type: string } }, required: [status] }
  output: { approved: payment_validator.approved, tracking: "fulfillment_processor.tracking_id | default(none)" }
`;
  const order = { order_id: 7, customer_id: "c", amount: 12.5 };
  const answers = (approved: boolean) => (request: ModelRequest) =>
    (request.messages[0]?.content ?? "").startsWith("Validate")
      ? JSON.stringify({ approved, reason: "x" })
      : '{"status": "shipped", "tracking_id": "TRK-987654"}';

  const shipped = await run(spec, order, answers(true));
  expect(shipped.result).toEqual({ approved: true, tracking: "TRK-987654" });
  expect(shipped.prompts[0]).toContain("Amount: $12.5");
  expect((await run(spec, order, answers(false))).result).toEqual({ approved: false, tracking: null });
});
