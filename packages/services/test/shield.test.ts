// What a process does that its end waits for.

import { MemoryMetastore, MemoryObjectStore } from "@ergos/drivers/memory";
import type { Kernel, KernelParts, Pid, Program } from "@ergos/kernel";
import { type RunContext, pipeline, planProgram, program } from "@ergos/services";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { LastingStore, bootKernel, codeOf, pause, within } from "../../kernel/test/kernel-fixture.ts";

let kernel: Kernel;
beforeEach(async () => {
  kernel = await bootKernel();
});
afterEach(() => kernel.close());

const forEver = ({ signal }: RunContext): Promise<never> =>
  new Promise((_resolve, reject) => {
    if (signal.aborted) reject(signal.reason as Error);
    signal.addEventListener("abort", () => reject(signal.reason as Error));
  });

/** Books something, waits to be ended, and takes back what it has booked. */
const booking = (takeBack: (ctx: RunContext) => unknown, done: string[] = []) =>
  program("booking", async (_input: unknown, ctx: RunContext) => {
    await ctx.step("book", () => void done.push("booked"));
    try {
      return await forEver(ctx);
    } finally {
      await ctx.shield(takeBack);
    }
  });

const begun = async (done: readonly string[]): Promise<void> => {
  while (done.length === 0) await pause(1);
};

test("a process that was told to end takes back what it has done, by steps and by models, before it has ended", async () => {
  const done: string[] = [];
  const takeBack = async (ctx: RunContext): Promise<void> => {
    await pause(150);
    await ctx.step("cancel", () => void done.push("cancelled"));
    await ctx.infer("told", "Tell them that we are sorry.");
    await ctx.os.fs.writeFile("/told", "yes");
    done.push(String(ctx.signal.aborted));
  };
  const pid = await kernel.os.spawn(booking(takeBack, done));
  await begun(done);

  await kernel.os.kill(pid);

  expect(done).toEqual(["booked", "cancelled", "false"]);
  expect(await kernel.os.wait(pid)).toMatchObject({ code: 143, signal: "TERM" });
  expect(kernel.host.processes.orphans).toBe(0);
});

test("so does a node of a run, though the run was given up at once", async () => {
  const done: string[] = [];
  const plan = pipeline("booking")
    .node("beside", (_input, ctx) => forEver(ctx))
    .node("book", { retry: { attempts: 2 }, timeoutMs: 60_000 }, async (_input, ctx) => {
      done.push("booked");
      try {
        await forEver(ctx);
      } finally {
        await ctx.shield(async (own) => {
          await pause(120);
          await own.step("cancel", () => void done.push("cancelled"));
        });
      }
    });
  const pid = await kernel.os.spawn(planProgram(plan.build()));
  await begun(done);

  await kernel.os.kill(pid, "INT");

  expect(done).toEqual(["booked", "cancelled"]);
  expect(await kernel.os.wait(pid)).toMatchObject({ code: 130, signal: "INT" });
});

test("what runs beside it is told to end all the same", async () => {
  const heard: string[] = [];
  const both = program("both", async (_input: unknown, ctx: RunContext) => {
    const beside = ctx
      .infer("beside", "Anything?")
      .catch((error: unknown) => void heard.push((error as Error).message));
    await beside;
    const shielded = ctx.shield(() => pause(100));
    heard.push("ready");
    await forEver(ctx).catch(() => undefined);
    heard.push(await codeOf(() => ctx.infer("late", "Anything else?")));
    heard.push(await codeOf(() => ctx.step("step", () => 1)));
    await shielded;
  });
  const pid = await kernel.os.spawn(both);
  await begun(heard);

  await kernel.os.kill(pid);

  expect(heard).toEqual(["ready", "ECANCELED", "ECANCELED"]);
});

test("a KILL goes through, and so does the time of the shield", async () => {
  const done: string[] = [];
  const results: string[] = [];
  const stuck = await kernel.os.spawn(booking(() => new Promise(() => undefined), done));
  await begun(done);
  const ending = kernel.os.kill(stuck);
  await pause(100);
  const late = program("late", async (_input: unknown, ctx: RunContext) => {
    results.push(await codeOf(() => ctx.shield(forEver, { timeoutMs: 20 })));
    results.push(await codeOf(() => ctx.shield(() => 1, { timeoutMs: 600_000 })));
    return ctx.step("after", () => results.length);
  });
  const other = await kernel.os.spawn(late);

  expect(await within(20, ending)).toBe("waits");
  await kernel.os.kill(stuck, "KILL");

  expect((await kernel.os.wait(stuck)).signal).toBe("KILL");
  await ending;
  expect((await kernel.os.wait(other)).result).toBe(2);
  expect(results).toEqual(["ETIMEDOUT", "EINVAL"]);
});

test("a limit of time and what it leaves behind wait for it as well; a program that does not, is not over before", async () => {
  const done: string[] = [];
  const takeBack = async (ctx: RunContext): Promise<void> => {
    await pause(120);
    await ctx.step("cancel", () => void done.push("cancelled"));
  };
  const limited = await kernel.os.spawn(booking(takeBack, done), { limits: { wallMs: 50 } });
  expect((await kernel.os.wait(limited)).error).toMatchObject({ code: "ETIMEDOUT" });
  const hasty = program("hasty", (_input: unknown, ctx: RunContext) => {
    void ctx.shield(takeBack);
    return "result";
  });

  const exit = await kernel.os.wait(await kernel.os.spawn(hasty));

  expect([exit.result, done]).toEqual(["result", ["booked", "cancelled", "cancelled"]]);
});

test("nothing is shielded from the end of a life of a process that lives on", async () => {
  const done: string[] = [];
  const takeBack = (ctx: RunContext): Promise<void> => ctx.step("cancel", () => void done.push("cancelled"));
  const [store, objects] = [new LastingStore(), new MemoryObjectStore()];
  const closed = await bootKernel({ store: store.life(), objects });
  const pid = await closed.os.spawn(booking(takeBack, done));
  await begun(done);
  await closed.close();
  await pause(20);
  const next = await bootKernel({ store: store.life(), objects });
  expect((await next.os.ps({ pids: [pid] }))[0]?.state).toBe("sleeping");
  await next.os.resume(pid, { program: booking(takeBack, done) });
  const other = program("other", async (_input: unknown, ctx: RunContext) => ctx.step("other", () => done.length));
  await next.os.call("upgrade", { pid, program: other });

  expect((await next.os.wait(pid)).result).toBe(1);
  expect(done).toEqual(["booked"]);
  const kept = await next.os.spawn(booking(takeBack, done), {
    limits: { wallMs: 20 },
    faults: { timeout: "quarantine" },
  });
  await expect.poll(async () => (await next.os.ps({ pids: [kept] }))[0]?.state).toBe("quarantined");
  await pause(20);
  expect(done).toEqual(["booked", "booked"]);
  await next.close();
});

test("no process fills its host with shields", async () => {
  const many = program("many", async (_input: unknown, ctx: RunContext) => {
    const codes = new Set<string>();
    for (let at = 0; at < 1500; at++) codes.add(await codeOf(() => ctx.os.call("shield", { ms: 300 })));
    return [...codes];
  });

  expect((await kernel.os.wait(await kernel.os.spawn(many))).result).toEqual(["ok", "EAGAIN"]);
});

test("one shield behind another, and each has its grace", async () => {
  const done: string[] = [];
  const nested = program("nested", async (_input: unknown, ctx: RunContext) => {
    done.push("runs");
    try {
      await forEver(ctx);
    } finally {
      for (const name of ["inner", "outer"]) {
        await ctx.shield(async (own) => {
          await pause(60);
          await own.step(name, () => void done.push(name));
        });
        await pause(30);
      }
    }
  });
  const pid = await kernel.os.spawn(nested);
  await begun(done);
  await kernel.os.kill(pid);

  expect(done).toEqual(["runs", "inner", "outer"]);
});

test("whose host dies meanwhile goes on with it at the next one, and ends then", async () => {
  const [store, objects] = [new MemoryMetastore(), new MemoryObjectStore()];
  const done: string[] = [];
  const gate = Promise.withResolvers<void>();
  const takeBack = async (ctx: RunContext): Promise<void> => {
    await ctx.step("first", () => void done.push("first"));
    if (done.length < 3) await new Promise(() => undefined);
    await ctx.step("second", () => void done.push("second"));
    gate.resolve();
  };
  const before = await bootKernel({ store, objects });
  const pid: Pid = await before.os.spawn(booking(takeBack, done));
  await begun(done);
  void before.os.kill(pid).catch(() => undefined);
  while (done.length < 2) await pause(1);
  done.push("died");

  const after = await bootKernel({ store, objects });
  await expect(after.os.call("clone", { pid })).rejects.toThrow("was told to end");
  await after.os.resume(pid, { program: booking(takeBack, done) });
  await gate.promise;

  expect(await after.os.wait(pid)).toMatchObject({ code: 143, signal: "TERM" });
  expect(done).toEqual(["booked", "first", "died", "second"]);
  await after.close();
});

test("what was taken back and forgotten is done again: by another attempt, and by a run that is tried again", async () => {
  const done: string[] = [];
  let left = 2;
  const book = async (ctx: RunContext): Promise<string> => {
    try {
      await ctx.step("book", () => void done.push("book"));
      await ctx.step("pay", () => {
        if (left-- > 0) throw new Error("no money");
      });
      return "paid";
    } catch (error) {
      await ctx.shield(async (own) => {
        await own.step("cancel", () => void done.push("cancel"));
        await own.forget();
      });
      throw error;
    }
  };
  const plan = pipeline("books")
    .node("before", () => void done.push("before"))
    .node("trip", { needs: ["before"], retry: { attempts: 2, delayMs: 1 } }, (_input, ctx) => book(ctx))
    .output("trip");
  const pid = await kernel.os.spawn(planProgram(plan.build()));
  expect((await kernel.os.wait(pid)).code).toBe(1);
  await kernel.os.resume(pid, { again: true, program: planProgram(plan.build()) });

  expect((await kernel.os.wait(pid)).result).toBe("paid");
  expect(done).toEqual(["before", "book", "cancel", "book", "cancel", "book"]);
});

test("a step that does not heed the signal does not keep its program from taking back what it has done", async () => {
  const done: string[] = [];
  const deaf = program("deaf", async (_input: unknown, ctx: RunContext) => {
    try {
      await ctx.step("charge", async () => {
        done.push("begins");
        await pause(400);
        done.push("charged");
      });
    } finally {
      await ctx.shield((own) => own.step("cancel", () => void done.push("cancelled")));
    }
  });
  const pid = await kernel.os.spawn(deaf);
  await begun(done);
  await kernel.os.kill(pid);

  expect(done).toEqual(["begins", "cancelled"]);
});

/** Books, sleeps until it is woken, and ships; what is booked is taken back when it is to end. */
const awaking = (done: string[], endsAwake = true) =>
  program(
    "awaking",
    async (_input: unknown, ctx: RunContext) => {
      await ctx.hibernate("first", { until: 0 });
      await ctx.step("book", () => void done.push("booked"));
      try {
        await ctx.hibernate("night");
        done.push("shipped");
      } catch (error) {
        await ctx.shield((safe) => safe.step("cancel", () => void done.push("cancelled")));
        throw error;
      }
    },
    { version: "1", endsAwake },
  );

const asleep = async (of: Kernel, pid: Pid): Promise<boolean> =>
  (await of.os.ps({ pids: [pid] }))[0]?.state === "sleeping";

describe("a process that sleeps when it is told to end", () => {
  let done: string[];
  const start = async (own: Program, parts: Partial<KernelParts> = {}): Promise<Pid> => {
    await kernel.close();
    kernel = await bootKernel({ programs: [own], ...parts });
    kernel.activate();
    const pid = await kernel.os.spawn(own);
    await begun(done);
    await expect.poll(() => asleep(kernel, pid)).toBe(true);
    return pid;
  };
  beforeEach(() => {
    done = [];
  });

  test("takes back what it has done where its program says so, and nothing behind its sleep is done", async () => {
    const pid = await start(awaking(done));
    await kernel.os.kill(pid);
    expect(done).toEqual(["booked", "cancelled"]);
    expect(await kernel.os.wait(pid)).toMatchObject({ code: 143, signal: "TERM" });
  });

  test.each(["KILL", "TERM"] as const)(
    "ends as it is by %s, where its program says nothing or it is KILL",
    async (signal) => {
      const pid = await start(awaking(done, signal === "KILL"));
      await kernel.os.kill(pid, signal);
      expect(done).toEqual(["booked"]);
      expect(await kernel.os.wait(pid)).toMatchObject({ signal });
    },
  );

  test("does so with a host that does not run it, too; without its program it ends as it is", async () => {
    const [store, objects] = [new LastingStore(), new MemoryObjectStore()];
    const own = awaking(done);
    const pid = await start(own, { store: store.life(), objects });
    const other = await kernel.os.spawn(own);
    await expect.poll(async () => done.length === 2 && (await asleep(kernel, other))).toBe(true);
    await kernel.close();
    kernel = await bootKernel({ store: store.life(), objects, programs: [own] });
    await kernel.os.kill(pid);
    expect(await kernel.os.wait(pid)).toMatchObject({ signal: "TERM" });
    expect(done).toEqual(["booked", "booked", "cancelled"]);
    await kernel.close();
    kernel = await bootKernel({ store: store.life(), objects });
    await kernel.os.kill(other);
    expect(await kernel.os.wait(other)).toMatchObject({ signal: "TERM" });
  });

  test("takes back what it has done also when it is just being resumed", async () => {
    const slow = program(
      "slow",
      async (_input: unknown, ctx: RunContext) => {
        await ctx.step("book", () => void done.push("booked"));
        try {
          await ctx.receive("go");
        } finally {
          await ctx.shield((safe) => safe.step("cancel", () => void done.push("cancelled")));
        }
      },
      { version: "1", endsAwake: true },
    );
    const [store, objects] = [new LastingStore(), new MemoryObjectStore()];
    await kernel.close();
    kernel = await bootKernel({ store: store.life(), objects, programs: [slow] });
    const pid = await kernel.os.spawn(slow);
    await begun(done);
    await kernel.close();
    kernel = await bootKernel({ store: store.life(), objects, programs: [slow] });
    const resuming = kernel.os.resume(pid);
    for (let turn = 0; turn < 3; turn++) await Promise.resolve();
    expect((await kernel.os.ps({ pids: [pid] }))[0]?.state).toBe("ready");
    await Promise.allSettled([kernel.os.kill(pid), resuming]);
    expect(await kernel.os.wait(pid)).toMatchObject({ signal: "TERM" });
    expect(done).toEqual(["booked", "cancelled"]);
  });

  test("ends as it is where it is in quarantine", async () => {
    const poor = program(
      "poor",
      async (_input: unknown, ctx: RunContext) => {
        await ctx.step("book", () => void done.push("booked"));
        try {
          throw new TypeError("no");
        } finally {
          await ctx.shield((safe) => safe.step("cancel", () => void done.push("cancelled")));
        }
      },
      { version: "1", endsAwake: true },
    );
    await kernel.close();
    kernel = await bootKernel({ programs: [poor] });
    const pid = await kernel.os.spawn(poor, { faults: { exception: "quarantine" } });
    await expect.poll(async () => (await kernel.os.ps({ pids: [pid] }))[0]?.state).toBe("quarantined");
    await kernel.os.kill(pid);

    expect(await kernel.os.wait(pid)).toMatchObject({ signal: "TERM" });
    expect(done).toEqual(["booked", "cancelled"]);
  });

  test("goes on with that in the next host, when this one dies meanwhile", async () => {
    const [store, objects] = [new LastingStore(), new MemoryObjectStore()];
    const gate = Promise.withResolvers<void>();
    const slow = program(
      "slow",
      async (_input: unknown, ctx: RunContext) => {
        await ctx.step("book", () => void done.push("booked"));
        try {
          await ctx.hibernate("night");
          done.push("shipped");
        } finally {
          await ctx.shield(async (safe) => {
            await safe.step("one", () => void done.push("one"));
            if (done.length < 3) await gate.promise;
            await safe.step("two", () => void done.push("two"));
          });
        }
      },
      { version: "1", endsAwake: true },
    );
    const pid = await start(slow, { store: store.life(), objects });
    void kernel.os.kill(pid).catch(() => undefined);
    await expect.poll(() => done).toEqual(["booked", "one"]);
    const next = store.life();
    done.push("(dies)");
    await kernel.close();
    kernel = await bootKernel({ store: next, objects, programs: [slow] });
    await kernel.os.resume(pid);
    expect(await kernel.os.wait(pid)).toMatchObject({ signal: "TERM" });
    expect(done).toEqual(["booked", "one", "(dies)", "two"]);
  });
});
