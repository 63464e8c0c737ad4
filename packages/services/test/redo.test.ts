// Runs that are done again from a step on: what is done anew, and what stays.

import type { Kernel, Pid } from "@ergos/kernel";
import { type RunContext, pipeline, planProgram, program } from "@ergos/services";
import { afterEach, beforeEach, expect, test } from "vitest";
import { bootKernel } from "../../kernel/test/kernel-fixture.ts";

let kernel: Kernel;
let done: string[];
beforeEach(async () => {
  done = [];
  kernel = await bootKernel();
});
afterEach(() => kernel.close());

const diamond = planProgram(
  pipeline("diamond")
    .node("top", () => void done.push("top"))
    .node("left", { after: ["top"] }, async (_given, ctx) => {
      await ctx.step("inner", () => done.push("left"));
      return ["a", "b"];
    })
    .node("right", { after: ["top"] }, () => void done.push("right"))
    .map("items", { over: "left" }, (item) => void done.push(item))
    .node("end", { after: ["items", "right"] }, () => done.push("end"))
    .build(),
);
const steps = program("steps", async (_input: unknown, ctx: RunContext) => {
  for (const name of ["one", "two", "three"]) await ctx.step(name, () => void done.push(name));
  return done.length;
});

const again = async (pid: Pid, from: readonly string[], of = diamond): Promise<readonly string[]> => {
  done = [];
  await kernel.os.resume(pid, { again: true, from, program: of });
  expect(await kernel.os.wait(pid)).toMatchObject({ code: 0 });
  return done;
};

test("of a plan a node is done again with what builds on it, and nothing else, though the run has completed", async () => {
  const pid = await kernel.os.spawn(diamond);
  await kernel.os.wait(pid);

  expect(await again(pid, ["left"])).toEqual(["left", "a", "b", "end"]);
  expect(await again(pid, ["items[1]"])).toEqual(["b", "end"]);
  expect((await again(pid, ["left/inner", "right"])).toSorted()).toEqual(["a", "b", "end", "left", "right"]);
  // What was done anew is what the next life goes on from.
  expect(await again(pid, ["end"])).toEqual(["end"]);
});

test("of a node that is done again from a step of it on the steps before that stay", async () => {
  const plan = planProgram(
    pipeline("inner")
      .node("sum", async (_given, ctx) => {
        for (const name of ["pay", "mail", "note"]) await ctx.step(name, () => void done.push(name));
      })
      .node("end", { after: ["sum"] }, () => void done.push("end"))
      .build(),
  );
  const pid = await kernel.os.spawn(plan);
  await kernel.os.wait(pid);
  expect(await again(pid, ["sum/mail"], plan)).toEqual(["mail", "note", "end"]);
});

test("a failure that a completed run went on from is not tried again for what came later", async () => {
  const own = program("own", async (_input: unknown, ctx: RunContext) => {
    const fails = (): never => {
      done.push("pay");
      throw new Error("declined");
    };
    await ctx.step("pay", fails).catch(() => undefined);
    await ctx.step("net", () => void done.push("net"));
  });
  const pid = await kernel.os.spawn(own);
  await kernel.os.wait(pid);
  expect(await again(pid, ["net"], own)).toEqual(["net"]);
  expect(await again(pid, ["pay"], own)).toEqual(["pay", "net"]);
});

test("of a function it is the step and what was recorded later", async () => {
  const pid = await kernel.os.spawn(steps);
  await kernel.os.wait(pid);

  expect(await again(pid, ["two"], steps)).toEqual(["two", "three"]);
  expect((await kernel.os.wait(pid)).result).toBe(2);
});

test("a step of which nothing is recorded is refused, with those that are; the run stays as it was", async () => {
  const pid = await kernel.os.spawn(steps);
  await kernel.os.wait(pid);

  await expect(kernel.os.resume(pid, { again: true, from: ["tow"], program: steps })).rejects.toMatchObject({
    code: "ENOENT",
    message: expect.stringMatching(/"tow".*recorded are one, two, three/) as unknown,
  });
  expect(await kernel.os.wait(pid)).toMatchObject({ code: 0, result: 3 });
});

test("a completed run is not resumed without a step to do again from, nor one that runs with it", async () => {
  const pid = await kernel.os.spawn(steps);
  await kernel.os.wait(pid);
  await expect(kernel.os.resume(pid, { again: true, program: steps })).rejects.toMatchObject({ code: "EBUSY" });

  const running = await kernel.os.spawn(program("runs", () => new Promise(() => undefined)));
  await expect(kernel.os.resume(running, { again: true, from: ["one"] })).rejects.toMatchObject({ code: "EBUSY" });
});
