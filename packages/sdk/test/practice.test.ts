// What a child does before it is asked for.

import { join } from "node:path";
import type { Os } from "@ergos/kernel";
import { ProcessRuntime, findStrays } from "@ergos/drivers/runtime-process";
import { practise } from "@ergos/sdk/child";
import { expect, test } from "vitest";
import { bootKernel } from "../../kernel/test/kernel-fixture.ts";

test("a practice goes the whole way of a program, over frames", async () => {
  const seen: unknown[] = [];
  await practise(async (os: Os) => {
    const { program, name, durable } = await os.call("context", {});
    seen.push(name, durable, program.source?.module?.slice(0, 5), await os.call("revise", { definitions: {} }));
    await os.call("log", { text: "x" });
  });
  expect(seen).toEqual(["practice", true, "data:", {}]);
});

test("who is taken from those that are ready knows nothing of it, and has none of it in its log", async () => {
  await using kernel = await bootKernel();
  const bootstrap = [join(import.meta.dirname, "../../cli/bin/ergos-child.js")];
  const runtime = new ProcessRuntime({ bootstrap, owner: "practice", spares: 1 });
  const source = {
    module: join(import.meta.dirname, "children/programs.mjs"),
    export: "place",
    name: "place",
  };
  const run = async () => kernel.os.wait(await kernel.os.spawn(runtime.toProgram(source, "1")));
  const first = await run();
  await expect.poll(() => findStrays("practice/spare/").length, { timeout: 10_000 }).toBe(1);
  const [spare] = findStrays("practice/spare/");
  await new Promise((go) => setTimeout(go, 500));
  const pid = await kernel.os.spawn(runtime.toProgram(source, "1"));
  const { result } = await kernel.os.wait(pid);
  expect(result).toMatchObject({ pid: spare, spare: null });
  expect(first.result).toMatchObject({ spare: null });
  expect(await kernel.os.fs.readText(`/proc/${pid}/log`)).toBe("");
  runtime.close();
  await expect.poll(() => findStrays("practice/").length, { timeout: 10_000 }).toBe(0);
});
