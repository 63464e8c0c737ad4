// What models say is heard as they say it: by whoever runs them, from another process too, and by nobody who has not asked.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TextPiece, connect, createOfflineModel } from "ergos";
import type { RunContext } from "@ergos/services";
import { afterEach, expect, test, vi } from "vitest";
import { runErgos, useDirectory } from "./ergos-cli.ts";

const directory = useDirectory();
afterEach(() => vi.unstubAllEnvs());

const asks = (_input: unknown, ctx: RunContext) =>
  Promise.all(["one", "two"].map(async (name) => (await ctx.infer(name, `Repeat the number ${name} to me.`)).text));

/** What was said at each place, when it came in its order and to its end. */
function wholes(pieces: readonly TextPiece[]): Readonly<Record<string, string>> {
  const said: Record<string, string> = {};
  const over = new Set<string>();
  const counts = new Map<string, number>();
  for (const { place, index, text, isLast } of pieces) {
    expect([index, over.has(place)]).toEqual([counts.get(place) ?? 0, false]);
    counts.set(place, index + 1);
    said[place] = (said[place] ?? "") + text;
    if (isLast) over.add(place);
  }
  expect(over.size).toBe(counts.size);
  return said;
}

test("whoever runs a program hears its models, from this process and over the socket", async () => {
  const { path: dir } = directory;
  await using host = await connect({ dir, programs: [asks] });
  await using remote = await connect({ dir });
  for (const os of [host, remote]) {
    const pieces: TextPiece[] = [];
    const other: Promise<unknown> = host.run(asks);
    const result = await os.run("asks", { onText: (piece) => pieces.push(piece) });
    await other;

    expect(pieces.length).toBeGreaterThan(4);
    expect(Object.values(wholes(pieces))).toEqual(result);
    expect(new Set(pieces.map(({ model }) => model))).toEqual(new Set(["offline"]));
  }
});

test("who listens to everything is not told, who names it is; a recorded answer is not said again", async () => {
  const { path: dir } = directory;
  await using os = await connect({ dir, programs: [asks] });
  const names = new Set<string>();
  const stop = new AbortController();
  const everything = (async () => {
    for await (const { name } of os.events({ classes: ["process"], signal: stop.signal })) names.add(name);
  })();
  const pieces: TextPiece[] = [];
  const options = { key: "once", onText: (piece: TextPiece): void => void pieces.push(piece) };
  await os.run(asks, options);
  const { length } = pieces;
  await os.run(asks, options);
  stop.abort();
  await everything;

  expect([length > 4, pieces.length]).toEqual([true, length]);
  expect(names).toContain("process.completed");
  expect(names).not.toContain("model.text");
});

test("what the listener throws is thrown, once the run has come to its end", async () => {
  let calls = 0;
  let isDone = false;
  await using os = await connect();
  const whole = async (input: unknown, ctx: RunContext): Promise<void> => {
    await asks(input, ctx);
    isDone = true;
  };
  const onText = (): never => {
    calls++;
    throw new TypeError("cannot hear");
  };

  await expect(os.run(whole, { onText })).rejects.toThrow("cannot hear");
  expect([calls, isDone]).toEqual([1, true]);
  await expect(os.run("nothing such", { onText })).rejects.toThrow("nothing such");
});

test("a start that fails while others end is a failure, and nobody hears what is not run below them", async () => {
  await using os = await connect({ programs: [asks] });
  const brief = async (): Promise<number> => Promise.resolve(1);
  let isOver = false;
  const busy = (async () => {
    while (!isOver) await os.run(brief, { durable: false });
  })();
  await expect(os.run("nothing such", { onText: () => undefined })).rejects.toThrow("nothing such");
  isOver = true;
  await busy;

  const heard: unknown[] = [];
  const spy = async (_input: unknown, ctx: RunContext): Promise<void> => {
    for await (const event of ctx.os.events({ names: ["model.text"], signal: ctx.signal })) heard.push(event);
  };
  const spying = await os.spawn(spy, { grants: ["self", "event.subscribe"] });
  const pieces: TextPiece[] = [];
  await os.run(asks, { onText: (piece) => pieces.push(piece) });
  await os.kill(spying);
  expect([pieces.length > 4, heard]).toEqual([true, []]);
});

test("who may not hear of events is told so, and the run comes to its end", async () => {
  const { path: dir } = directory;
  await using host = await connect({ dir, programs: [asks] });
  const { pass } = await host.call("issuePass", { grants: ["self", "proc.*", "llm"] });
  await using guest = await connect({ dir, pass });

  await expect(guest.run("asks", { onText: () => undefined })).rejects.toMatchObject({ code: "EACCES" });
  expect((await host.ps({ all: true, name: "asks" }))[0]).toMatchObject({ status: "completed" });
});

test("secrets are masked, wherever pieces are cut", async () => {
  const secret = "sk-live-0123456789abcdef";
  const answer = `It is ${secret}, sk-live-0123 is not; and ${secret}`;
  vi.stubEnv("TEST_SECRET_KEY", secret);
  for (const size of [1, 2, 3, 7, 25]) {
    const offline = createOfflineModel();
    await using os = await connect({
      models: [
        {
          ...offline,
          infer: (_request, call) => {
            for (let at = 0; at < answer.length; at += size) call.onText?.(answer.slice(at, at + size));
            const usage = { inputTokens: 1, outputTokens: 1 };
            return Promise.resolve({ text: answer, finishReason: "stop" as const, usage });
          },
        },
      ],
    });
    const pieces: TextPiece[] = [];
    const tells = async (_input: unknown, ctx: RunContext): Promise<unknown> => ctx.infer("tell", "What is it?");
    await os.run(tells, { onText: (piece) => pieces.push(piece) });

    expect(wholes(pieces)).toEqual({ tell: "It is ***, sk-live-0123 is not; and ***" });
  }
});

test("`run --text` writes them on stderr, one answer after the other, and the answer on stdout", () => {
  const manifest = `apiVersion: ergos/v1
kind: Pipeline
metadata: { name: says }
spec:
  nodes:
    - { kind: llm, name: a, prompt: "Summarise: the quick brown fox." }
    - { kind: llm, name: b, prompt: "Summarise: the lazy dog." }
`;
  writeFileSync(join(directory.path, "says.yaml"), manifest);
  const { status, stdout, stderr } = runErgos(["run", "says.yaml", "--text", "--json"], { cwd: directory.path });
  const { result } = JSON.parse(stdout) as { readonly result: Readonly<Record<"a" | "b", string>> };

  expect(status).toBe(0);
  expect(stderr).toBe(`a/answer (offline): ${result.a}\nb/answer (offline): ${result.b}\n`);
});
