// The library: code that is given to a host is found again by the next one.

import { connect, pipeline } from "ergos";
import { expect, test } from "vitest";
import { useDirectory } from "./ergos-cli.ts";

const directory = useDirectory();

test("a pipeline and a function in code go on in the next host that has them, and nothing is done twice", async () => {
  const done: string[] = [];
  let gate: Promise<unknown> = new Promise(() => undefined);
  const work = pipeline<{ at: number }>("work")
    .node("first", ({ at }) => {
      done.push("first");
      return at + 1;
    })
    .node("last", { needs: ["first"] }, async ({ first }) => {
      await gate;
      return first * 2;
    });
  const named = async (): Promise<string> => {
    await gate;
    return "named";
  };
  const dir = directory.path;
  const pids: number[] = [];
  {
    await using os = await connect({ dir, programs: [work, named] });
    pids.push(await os.spawn(work, { input: { at: 3 } }), await os.spawn("named"));
    await expect.poll(() => done).toEqual(["first"]);
  }
  gate = Promise.resolve();
  await using os = await connect({ dir, programs: [work, named] });
  expect(os.resumed).toEqual(pids);
  const results = [];
  for (const pid of os.resumed) results.push((await os.wait(pid)).result);
  expect([results, done]).toEqual([[8, "named"], ["first"]]);
});

test("what is no program is told before anything is opened", async () => {
  const wrong = { programs: ["./module.ts"] } as unknown as Parameters<typeof connect>[0];
  await expect(connect(wrong)).rejects.toMatchObject({ code: "ENOEXEC" });
});
