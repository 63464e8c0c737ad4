// A model that is offered tools: what it is told, what the budget holds, and that a conversation survives its host.

import { type OfflineReply, createOfflineModel } from "@ergos/drivers/model-offline";
import { type Kernel, type Model, type ModelMessage, type ModelRequest, type Tool, type Os } from "@ergos/kernel";
import { type RunContext, converse, program } from "@ergos/services";
import { expect, test } from "vitest";
import { bootAfterDeath, bootKernel, closeWhole } from "../../kernel/test/kernel-fixture.ts";

type Script = (request: ModelRequest) => OfflineReply;

const modelOf = (script: Script, more: Partial<Model> = {}): Model => ({ ...createOfflineModel({ script }), ...more });
const tool = (name: string, call: Tool<Os>["call"], inputSchema = {}): Tool<Os> => ({
  name,
  description: `does ${name}`,
  inputSchema,
  effect: "once",
  call,
});

/** Asks until the model has an answer; what was said is the result. */
const talk = program("talk", async (input: unknown, ctx: RunContext) => {
  const { tools, turnsMax } = input as { readonly tools: string[]; readonly turnsMax?: number };
  const request = { messages: [{ role: "user" as const, content: "begin" }], tools };
  const { messages } = await converse(ctx, "talk", request, turnsMax === undefined ? {} : { turnsMax });
  return messages;
});

const turnOf = ({ messages }: ModelRequest): number => messages.filter(({ role }) => role === "assistant").length + 1;

async function conversation(kernel: Kernel, tools: readonly string[]): Promise<readonly ModelMessage[]> {
  const exit = await kernel.os.wait(await kernel.os.spawn(talk, { input: { tools } }));
  expect(exit.error).toBeUndefined();
  return exit.result as readonly ModelMessage[];
}

test("tools are offered by name, with what they are; results and failures come back as the model's own turns", async () => {
  const offered: ModelRequest["tools"][] = [];
  await using kernel = await bootKernel({
    models: [
      modelOf((request) => {
        offered.push(request.tools);
        const calls: OfflineReply[] = [
          {
            toolCalls: [
              { name: "add", arguments: { a: 1, b: 2 } },
              { name: "add", arguments: { a: "one" } },
              { name: "add", arguments: "{a:" },
              { name: "add", arguments: "[1]" },
              { name: "made up", arguments: {} },
              { name: "say", arguments: {} },
            ],
          },
        ];
        return calls[turnOf(request) - 1] ?? "done";
      }),
    ],
    tools: [
      tool("add", ({ a, b }) => ({ sum: Number(a) + Number(b) }), {
        type: "object",
        properties: { a: { type: "number" }, b: { type: "number" } },
      }),
      tool("say", () => "as it is"),
    ],
  });

  const messages = await conversation(kernel, ["add", "say"]);

  expect(offered[0]?.map(({ name, description }) => [name, description])).toEqual([
    ["add", "does add"],
    ["say", "does say"],
  ]);
  const told = messages.filter(({ role }) => role === "tool").map(({ content }) => content);
  expect(told).toEqual([
    '{"sum":3}',
    expect.stringMatching(/^error: \[EINVAL\] in the call of tool add: a/),
    expect.stringMatching(/^error: \[EINVAL\] the arguments for add are no JSON/),
    "error: [EINVAL] the arguments for add must be a JSON object, found an array",
    'error: there is no tool "made up"; there are add, say',
    "as it is",
  ]);
  expect(messages.at(-1)?.content).toBe("done");
});

test("a conversation that its host does not survive goes on with what was said and done, wherever it was cut", async () => {
  let acted = 0;
  const parts = {
    models: [
      modelOf((request) =>
        turnOf(request) > 3
          ? `after ${request.messages.at(-1)?.content}`
          : { toolCalls: [{ name: turnOf(request) === 2 ? "fail" : "count", arguments: {} }] },
      ),
    ],
    tools: [
      { ...tool("count", () => "counted"), effect: "idempotent" as const },
      // Asked again it would say something else.
      { ...tool("fail", () => Promise.reject(new TypeError(`failed ${++acted}`))), effect: "pure" as const },
    ],
    programs: [talk],
  };
  let commits = 1;
  for (let isDead = true; isDead; commits++) {
    const life = await bootAfterDeath(commits, parts, talk, { input: { tools: ["count", "fail"] } });
    const { kernel } = life;
    ({ isDead } = life);
    const left = (await kernel.os.call("ps", { all: true })).find(({ name }) => name === "talk");
    if (left !== undefined) {
      if (left.state !== "zombie") await kernel.os.call("resume", { pid: left.pid }).catch(() => undefined);
      const { result, error } = await kernel.os.wait(left.pid);
      expect(error).toBeUndefined();
      const words = (result as readonly ModelMessage[]).map(({ role, content }) => `${role}: ${content}`);
      expect(words).toEqual([
        "user: begin",
        "assistant: ",
        "tool: counted",
        "assistant: ",
        expect.stringMatching(/^tool: error: \[EFAILED\] failed \d+/),
        "assistant: ",
        "tool: counted",
        "assistant: after counted",
      ]);
    }
    await closeWhole(kernel);
  }
  expect(commits).toBeGreaterThan(6);
});

test("tools and what was called are part of what a call may cost; a spent budget ends the process and not the model's turn", async () => {
  const price = { input: 1, output: 1 };
  await using kernel = await bootKernel({
    models: [modelOf(() => ({ toolCalls: [{ name: "big", arguments: {} }] }), { price })],
    tools: [tool("big", () => "x".repeat(40_000))],
  });
  const run = (tools: readonly string[], budget: Record<string, number>) =>
    kernel.os.spawn(talk, { input: { tools }, budget }).then((pid) => kernel.os.wait(pid));

  // The answer is reserved at 4,096 tokens; a description of the tool, or its result, does not fit beside it.
  expect((await run(["big"], { tokens: 4_300 })).error?.code).toBe("EDQUOT");
  expect((await run(["big"], { tokens: 20_000, toolCalls: 5 })).error?.code).toBe("EDQUOT");
  expect((await run(["big"], { tokens: 10_000_000, toolCalls: 1 })).error?.code).toBe("EDQUOT");
});

test("a tool of the host that the model was not offered is not called", async () => {
  let acted = 0;
  await using kernel = await bootKernel({
    models: [
      modelOf((request) =>
        turnOf(request) > 1
          ? "done"
          : {
              toolCalls: [
                { name: "act", arguments: {} },
                { name: "say", arguments: {} },
              ],
            },
      ),
    ],
    tools: [tool("act", () => ++acted), tool("say", () => "said")],
  });

  const told = (await conversation(kernel, ["say"])).filter(({ role }) => role === "tool");
  expect(told.map(({ content }) => content)).toEqual(['error: there is no tool "act"; there are say', "said"]);
  expect(acted).toBe(0);
});

test("a request with tools that are none, or answers that nobody asked for, is refused by name", async () => {
  await using kernel = await bootKernel();
  const ask = (request: object) =>
    kernel.os.infer("q", { messages: [{ role: "user", content: "?" }], ...request }).catch((error: unknown) => error);

  expect(await ask({ tools: ["no such"] })).toMatchObject({
    code: "ENOENT",
    message: expect.stringMatching(/no tool "no such"/),
  });
  expect(await ask({ messages: [{ role: "tool", callId: "c1", content: "yes" }] })).toMatchObject({
    code: "EINVAL",
    message: expect.stringMatching(/messages\[0\] tells what came of the call "c1"/),
  });
});

test("a model that must call a tool does so once, and the calls of a last turn are not made", async () => {
  const choices: unknown[] = [];
  let acted = 0;
  const model = modelOf(({ toolChoice }) => {
    choices.push(toolChoice);
    return toolChoice === undefined ? "done" : { toolCalls: [{ name: "act", arguments: {} }] };
  });
  await using kernel = await bootKernel({ models: [model], tools: [tool("act", () => ++acted)] });
  const forced = program("forced", async (input: unknown, ctx: RunContext) => {
    const messages = [{ role: "user" as const, content: "begin" }];
    const { turnsMax } = input as { readonly turnsMax: number };
    const request = { messages, tools: ["act"], toolChoice: "required" as const };
    return (await converse(ctx, "talk", request, { turnsMax })).answer.text;
  });
  const runs = async (turnsMax: number) => kernel.os.wait(await kernel.os.spawn(forced, { input: { turnsMax } }));

  expect((await runs(2)).result).toBe("done");
  expect([choices, acted]).toEqual([["required", undefined], 1]);
  expect((await runs(1)).error?.code).toBe("EPROTO");
  expect(acted).toBe(1);
});

test("a model that only calls tools is asked as often as was said, and no number of turns is a mistake", async () => {
  const model = modelOf(() => ({ toolCalls: [{ name: "say", arguments: {} }] }));
  await using kernel = await bootKernel({ models: [model], tools: [tool("say", () => "again")] });
  const failure = async (turnsMax: number): Promise<string | undefined> =>
    (await kernel.os.wait(await kernel.os.spawn(talk, { input: { tools: ["say"], turnsMax } }))).error?.message;

  expect(await failure(3)).toMatch(/called tools in each of 3 turns/);
  expect(await failure(0)).toMatch(/EINVAL.*turnsMax.*found 0/);
});
