import { join } from "node:path";
import { connect, createOfflineModel } from "ergos";
import { expect, test } from "vitest";

const module = join(import.meta.dirname, "extraction.yaml");

test("letters become records of the schema", async () => {
  await using os = await connect();

  expect(await os.run({ module })).toEqual({
    records: [
      {
        invoice_number: "A-17",
        customer: "Harbour Works",
        total: 1250.5,
        currency: "EUR",
        items: ["bolts", "nuts", "washers"],
      },
      { invoice_number: "A-18", customer: "Lighthouse Ltd", total: 80, currency: "GBP", items: ["lamp oil"] },
    ],
    refused: [],
    totals: "EUR 1250.5, GBP 80",
  });
});

test("a model that answers nonsense is told why, and given up after two tries", async () => {
  const asked: string[] = [];
  const model = createOfflineModel({
    script: (request, call) => {
      asked.push(request.messages.at(-1)?.content ?? "");
      return call === 1
        ? '```json\n{"invoice_number": "B-1", "customer": "C", "total": 1, "currency": "USD", "items": ["x"]}\n```'
        : "I think it is 42.";
    },
  });
  await using os = await connect({ models: [model] });

  const repaired = await os.run({ module }, { input: { letters: ["one"] } });
  expect(repaired).toMatchObject({ records: [{ invoice_number: "B-1" }], refused: [] });
  expect(asked[1]).toMatch(/no JSON/);

  const refused = await os.run({ module }, { input: { letters: ["two"] } });
  expect(refused).toMatchObject({
    records: [],
    refused: [expect.stringMatching(/does not answer with JSON/) as unknown],
  });
  expect(asked.length).toBe(5);
});
