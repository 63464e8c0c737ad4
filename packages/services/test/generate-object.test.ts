// Values of a schema from models, and tools whose arguments are typed, with schemas of zod and plain ones.

import { type OfflineReply, createOfflineModel } from "@ergos/drivers/model-offline";
import type { ModelRequest, Os, Tool } from "@ergos/kernel";
import {
  type GenerateOptions,
  type RunContext,
  type StandardSchema,
  createTool,
  generateObject,
  program,
} from "@ergos/services";
import { describe, expect, expectTypeOf, test } from "vitest";
import * as z from "zod";
import { bootAfterDeath, bootKernel, closeWhole } from "../../kernel/test/kernel-fixture.ts";

const order = z.object({ id: z.coerce.number().int(), city: z.string().min(2).default("Bern") });
type Order = z.infer<typeof order>;

/** What a program got from a model that says these things, one after the other, and what the model was asked. */
async function ask(
  replies: readonly OfflineReply[],
  run: (ctx: RunContext) => Promise<unknown>,
  tools: readonly Tool<Os>[] = [],
) {
  const asked: ModelRequest[] = [];
  const script = (request: ModelRequest): OfflineReply => replies[asked.push(request) - 1] ?? "no more";
  await using kernel = await bootKernel({ models: [createOfflineModel({ script })], tools });
  const exit = await kernel.os.wait(await kernel.os.spawn(program("asking", (_input: unknown, ctx) => run(ctx))));
  return { exit, asked };
}

const first =
  (schema: StandardSchema<Order> | { readonly type: "string" }, options?: GenerateOptions) => (ctx: RunContext) =>
    generateObject(ctx, "order", "an order", schema, options).then(({ object }) => object);

test("the value is as the schema gives it, typed, and the model is sent its JSON Schema", async () => {
  const { exit, asked } = await ask(['{ "id": "7" }'], async (ctx) => {
    const { object, answer, calls } = await generateObject(ctx, "order", "an order", order);
    expectTypeOf(object).toEqualTypeOf<Order>();
    return { object, text: answer.text, calls };
  });

  expect(exit.result).toEqual({ object: { id: 7, city: "Bern" }, text: '{ "id": "7" }', calls: 0 });
  expect(asked).toMatchObject([
    {
      messages: [{ role: "user", content: "an order" }],
      responseSchema: { type: "object", properties: { id: {}, city: { type: "string", minLength: 2 } } },
    },
  ]);
  expect(asked[0]?.responseSchema).not.toHaveProperty("$schema");
});

test("a model whose answer does not fit is told why, and what it has said before", async () => {
  const { exit, asked } = await ask(
    ["an order?", '{"id": "x", "city": "B"}', '```json\n{"id": 1}\n```'],
    first(order, { repairs: 2 }),
  );

  expect(exit.result).toEqual({ id: 1, city: "Bern" });
  expect(asked[1]?.messages.at(-1)?.content).toMatch(/it is no JSON.*"minLength":2/);
  expect(asked[2]?.messages.map(({ role }) => role)).toEqual(["user", "assistant", "user", "assistant", "user"]);
  expect(asked[2]?.messages.at(-1)?.content).toMatch(/id .*; city /);
});

describe("what no value can be made of", () => {
  test.each<[string, readonly OfflineReply[], GenerateOptions, RegExp, number]>([
    ["never fits", ["1", "2", "3"], {}, /does not answer with JSON of the schema: it .*it said "2"/, 2],
    ["may not be repaired", ["1", "2"], { repairs: 0 }, /it said "1"/, 1],
  ])("an answer that %s", async (_what, replies, options, message, count) => {
    const { exit, asked } = await ask(replies, first(order, options));

    expect(exit.error).toMatchObject({ code: "EPROTO", message: expect.stringMatching(message) as string });
    expect(asked).toHaveLength(count);
  });

  test("a schema that cannot be told as JSON Schema is refused with its tool", () => {
    const make = () =>
      createTool({
        name: "late",
        description: "late",
        inputSchema: z.object({ at: z.date() }),
        effect: "pure",
        call: () => 1,
      });
    expect(make).toThrow(/EINVAL.*zod tells no JSON Schema: Date/);
  });

  test("a schema of a library that tells no JSON Schema, and repairs that are no number", async () => {
    const old = { "~standard": { ...order["~standard"], jsonSchema: undefined as never } };
    expect((await ask([], first(old))).exit.error?.message).toMatch(/schema of zod tells no JSON Schema/);
    expect((await ask([], first(order, { repairs: -1 }))).exit.error?.message).toMatch(/repairs is a whole number/);
  });
});

test("of a schema that is a text the answer is the value, quoted or not", async () => {
  expect((await ask(["  so \n"], first({ type: "string" }))).exit.result).toBe("so");
  expect((await ask(['"so"'], first({ type: "string" }))).exit.result).toBe("so");
});

test("a model may call tools on the way; their arguments are typed, and what does not fit is told to the model", async () => {
  const seen: unknown[] = [];
  const lookup = createTool({
    name: "lookup",
    description: "finds an order",
    inputSchema: order.refine(({ id }) => id !== 13, { message: "there is no 13", path: ["id"] }),
    effect: "pure",
    call: (args, { idempotencyKey }) => {
      expectTypeOf(args).toEqualTypeOf<Order>();
      expect(idempotencyKey).not.toBe("");
      seen.push(args);
      return args;
    },
  });
  const call = (id: unknown): OfflineReply => ({ toolCalls: [{ name: "lookup", arguments: { id } }] });

  const { exit, asked } = await ask(
    [call(13), call(8), '{"id": 8}'],
    (ctx) =>
      generateObject(ctx, "order", { messages: [{ role: "user", content: "8" }], tools: ["lookup"] }, order).then(
        ({ object, calls }) => [object, calls],
      ),
    [lookup],
  );

  expect(exit.result).toEqual([{ id: 8, city: "Bern" }, 2]);
  expect(seen).toEqual([{ id: 8, city: "Bern" }]);
  expect(asked[1]?.messages.at(-1)?.content).toContain("id there is no 13");
  expect(asked[0]?.tools).toMatchObject([{ name: "lookup", inputSchema: { type: "object" } }]);
});

test("a conversation that was cut off goes on where it was, whatever was repaired", async () => {
  const script = ({ messages }: ModelRequest): string => (messages.length === 1 ? "no" : `{"id": ${messages.length}}`);
  const asking = program("asking", (_input: unknown, ctx) => first(order)(ctx));
  const parts = { models: [createOfflineModel({ script })], programs: [asking] };
  for (let [commits, isDead] = [1, true]; isDead; commits++) {
    const life = await bootAfterDeath(commits, parts, asking);
    ({ isDead } = life);
    const left = (await life.kernel.os.ps({ all: true })).find(({ name }) => name === "asking");
    if (left !== undefined) {
      if (left.state !== "zombie") await life.kernel.os.resume(left.pid).catch(() => undefined);
      expect((await life.kernel.os.wait(left.pid)).result).toEqual({ id: 3, city: "Bern" });
    }
    await closeWhole(life.kernel);
  }
});
