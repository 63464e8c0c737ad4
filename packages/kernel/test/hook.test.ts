// Hooks: their order, what they may and may not do, failures, and who sees what.

import { type HookOutcome, type Kernel, type KernelEvent, KernelError, type Os, hookOn, toPath } from "@ergos/kernel";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { bootKernel, processWith } from "./kernel-fixture.ts";

let kernel: Kernel;
let os: Os;
beforeEach(async () => {
  kernel = await bootKernel();
  os = kernel.os;
});
afterEach(() => kernel.close());

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
const turn = (): Promise<void> => new Promise((go) => setTimeout(go, 5));

describe("hooks", () => {
  test("come in their order: by priority, then as they were added; resolvers, pre, post, observers", async () => {
    const seen: string[] = [];
    const noting = (name: string, priority: number) =>
      hookOn(["write"], {
        name,
        priority,
        resolve: async () => void seen.push(`resolve ${name}`),
        pre: () => void seen.push(`pre ${name}`),
        post: async (_call, { size }) => seen.push(`post ${name} ${size}`),
        observe: (_call, { ok }) => seen.push(`observe ${name} ${ok}`),
      });
    const out = [noting("b", 1), noting("c", 1), noting("a", 0)].map((hook) => kernel.hook(hook));
    await os.fs.writeFile("/srv/x", "12");
    await turn();
    expect(seen).toEqual(
      ["resolve", "pre", "post", "observe"].flatMap((kind) =>
        ["a", "b", "c"].map((name) => `${kind} ${name}${kind === "post" ? " 2" : kind === "observe" ? " true" : ""}`),
      ),
    );
    seen.length = 0;
    await os.fs.readText("/srv/x");
    for (const remove of out) remove();
    await os.fs.writeFile("/srv/x", "12");
    expect(seen).toEqual([]);
    expect(JSON.parse(await os.fs.readText("/sys/hooks.json"))).toEqual([]);
  });

  test("may refuse: with an error of the table as it is, with any other as EPERM that names the hook", async () => {
    kernel.hook(
      hookOn(["unlink"], {
        name: "keeper",
        paths: "/srv/**",
        pre: ({ resource }) => {
          if (resource === "/srv/a") throw new TypeError("it is needed");
          throw new KernelError("EBUSY", "later");
        },
      }),
    );
    for (const path of ["/srv/a", "/srv/b", "/home/c"]) await os.fs.writeFile(path, "");
    await expect(os.fs.unlink("/srv/a")).rejects.toMatchObject({ code: "EPERM", path: "/srv/a" });
    await expect(os.fs.unlink("/srv/a")).rejects.toThrow("hook keeper refuses unlink of /srv/a: it is needed");
    await expect(os.fs.unlink("/srv/b")).rejects.toMatchObject({ code: "EBUSY" });
    await os.fs.unlink("/home/c");
    const [summary] = JSON.parse(await os.fs.readText("/sys/hooks.json")) as { seen: number; refused: number }[];
    expect(summary).toMatchObject({ name: "keeper", calls: ["unlink"], paths: "/srv/**", seen: 3, refused: 3 });
  });

  test("may give another payload, which the next one and the audit see, and never another object", async () => {
    const upper = hookOn(["write"], {
      name: "upper",
      pre: (_call, args) => ({ ...args, bytes: bytesOf(new TextDecoder().decode(args.bytes).toUpperCase()) }),
    });
    const remove = [
      kernel.hook(upper),
      kernel.hook(
        hookOn(["write"], {
          pre: (_call, args) => ({ ...args, bytes: bytesOf(`${new TextDecoder().decode(args.bytes)}!`) }),
        }),
      ),
    ];
    await os.fs.writeFile("/srv/x", "hello");
    for (const out of remove) out();
    expect(await os.fs.readText("/srv/x")).toBe("HELLO!");
    const records = await os.call("auditLog", { limit: 50 });
    const written = records.find(({ call, payload }) => call === "write" && payload?.resource === "/srv/x");
    expect(written?.payload?.args).toMatchObject({ changedBy: ["upper", "hook-2"] });

    kernel.hook(hookOn(["write"], { name: "thief", pre: (_call, args) => ({ ...args, path: "/srv/other" }) }));
    await expect(os.fs.writeFile("/srv/x", "1")).rejects.toMatchObject({ code: "EPERM", path: "/srv/x" });
    expect(await os.fs.exists("/srv/other")).toBe(false);
    kernel.hook(hookOn(["kill"], { pre: (_call, args) => ({ ...args, signal: "LOUD" as "TERM" }) }));
    const pid = await os.spawn({
      name: "idle",
      revision: "1",
      kind: "function",
      run: () => new Promise(() => undefined),
    });
    await expect((async () => os.kill(pid))()).rejects.toMatchObject({ code: "EINVAL" });
  });

  test("of resolvers the first that claims a call does it, for paths that do not exist too", async () => {
    const inner = await processWith(kernel, ["fs.read:/docs/**"]);
    const seen: string[] = [];
    const remove = kernel.hook(
      hookOn(["read"], {
        paths: "/docs/*.parsed.md",
        resolve: async ({ resource }) => {
          seen.push(resource);
          return resource === "/docs/none.parsed.md" ? undefined : bytesOf("# parsed");
        },
        pre: ({ resource }) => void seen.push(`pre ${resource}`),
      }),
    );
    expect(await inner.fs.readText("/docs/a.parsed.md")).toBe("# parsed");
    await expect(os.fs.readText("/docs/none.parsed.md")).rejects.toMatchObject({ code: "ENOENT" });
    const stranger = await processWith(kernel, ["fs.read:/srv/**", "fs.stat:/docs/**"]);
    await expect(stranger.fs.readText("/docs/a.parsed.md")).rejects.toMatchObject({ code: "EACCES" });
    expect(seen).toEqual(["/docs/a.parsed.md", "/docs/none.parsed.md", "pre /docs/none.parsed.md"]);
    remove();
    await expect(os.fs.readText("/docs/a.parsed.md")).rejects.toMatchObject({ code: "ENOENT" });
  });

  test("see nothing that was refused, and can allow nothing", async () => {
    const seen: string[] = [];
    const inner = await processWith(kernel, ["fs.read:/home/**"]);
    kernel.hook({ pre: ({ name }) => void seen.push(name), resolve: ({ name }) => void seen.push(name) });
    await expect(inner.fs.readText("/srv/x")).rejects.toMatchObject({ code: "EACCES" });
    expect(seen).toEqual([]);
  });

  test("that fail behind the act are told as an event, and the call is done all the same", async () => {
    const events: KernelEvent[] = [];
    kernel.host.bus.observe({ names: ["hook.failed"] }, (event) => events.push(event));
    kernel.hook(hookOn(["setattr"], { name: "late", post: () => Promise.reject(new Error("too late")) }));
    const outcomes: HookOutcome[] = [];
    kernel.hook(
      hookOn(["setattr"], {
        name: "watcher",
        observe: (_call, outcome) => {
          outcomes.push(outcome);
          throw new Error("blind");
        },
      }),
    );
    await os.fs.mkdir("/srv/d");
    await expect(os.fs.mkdir("/srv/d")).rejects.toMatchObject({ code: "EEXIST" });
    await turn();
    expect(events.map(({ data }) => data["hook"])).toEqual(["late", "watcher", "watcher"]);
    expect(outcomes.map(({ ok }) => ok)).toEqual([true, false]);
    expect((await os.fs.stat("/srv/d")).type).toBe("directory");
  });

  test("that never answer have failed after their time", async () => {
    const remove = kernel.hook(
      hookOn(["setattr"], { name: "stuck", timeoutMs: 20, pre: () => new Promise<never>(() => undefined) }),
    );
    await expect(os.fs.mkdir("/srv/d")).rejects.toMatchObject({ code: "ETIMEDOUT" });
    expect(await os.fs.exists("/srv/d")).toBe(false);
    remove();
    kernel.hook(hookOn(["setattr"], { timeoutMs: 20, post: () => new Promise(() => undefined) }));
    await os.fs.mkdir("/srv/d");
  });

  test("look at what a virtual file stands for, at streams when they begin, and at both paths of a rename", async () => {
    const seen: string[] = [];
    kernel.hook({ paths: "/proc/**", calls: ["kill"], pre: ({ resource }) => void seen.push(resource) });
    kernel.hook(hookOn(["rename"], { paths: "/home/**", pre: ({ second }) => void seen.push(second ?? "") }));
    kernel.hook(hookOn(["watch"], { post: (_call, result) => seen.push(typeof result) }));
    const pid = await os.spawn({
      name: "idle",
      revision: "1",
      kind: "function",
      run: () => new Promise(() => undefined),
    });
    await os.fs.write(`/proc/${pid}/signal`, "HUP");
    await os.fs.writeFile("/srv/x", "");
    await os.fs.mkdir("/home/d");
    await os.fs.rename("/srv/x", "/home/d/x");
    const watching = os.fs.watch("/srv/**")[Symbol.asyncIterator]();
    const first = watching.next();
    await turn();
    await os.fs.writeFile("/srv/y", "");
    expect((await first).value).toMatchObject({ data: { path: "/srv/y" } });
    await watching.return?.();
    expect(seen).toEqual([`/proc/${pid}`, "/home/d/x", "undefined"]);
  });

  test("hold up nobody who has ended meanwhile, and show what is done", async () => {
    let go: () => void = () => undefined;
    const inner = await processWith(kernel, ["*"]);
    kernel.hook(
      hookOn(["write"], {
        paths: "/srv/slow*",
        pre: () => new Promise<undefined>((resolve) => (go = () => resolve(undefined))),
      }),
    );
    const writing = inner.fs.write("/srv/slow", "by the dead", { create: "maybe" });
    writing.catch(() => undefined);
    await turn();
    await os.kill(inner.pid, "KILL");
    go();
    await expect(writing).rejects.toMatchObject({ code: "ESRCH" });
    expect(await os.fs.exists("/srv/slow")).toBe(false);
    const bytes = bytesOf("good");
    const seen = (async () => os.call("write", { path: "/srv/slow2", bytes, create: "maybe" }))();
    await turn();
    bytes.set(bytesOf("bad!"));
    go();
    await seen;
    expect(await os.fs.readText("/srv/slow2")).toBe("good");
  });

  test("that make calls which are shown to them come to an end, and what they give is held against grants", async () => {
    const out = kernel.hook({ name: "endless", calls: ["stat"], pre: async () => void (await os.fs.stat("/srv")) });
    await expect(os.fs.stat("/srv")).rejects.toMatchObject({ code: "ELOOP" });
    out();
    await os.fs.stat("/srv");
    const inner = await processWith(kernel, ["self", "model.infer:*; arg.maxOutputTokens<=10"]);
    const request = { messages: [{ role: "user" as const, content: "x" }], maxOutputTokens: 5 };
    const more = kernel.hook(
      hookOn(["infer"], { pre: (_call, args) => ({ ...args, request: { ...args.request, maxOutputTokens: 5000 } }) }),
    );
    await expect(inner.infer("a", request)).rejects.toMatchObject({ code: "EPERM" });
    more();
    kernel.hook({ name: "null", calls: ["infer"], pre: () => null });
    await expect(inner.infer("b", request)).rejects.toThrow(/EINVAL.*hook null gave null/);
  });

  test("are refused that are none, and beyond their number", () => {
    expect(() => kernel.hook({ name: "empty" })).toThrow(/EINVAL.*empty has none of resolve, pre, post, observe/);
    expect(() => {
      for (let at = 0; at < 1001; at++) kernel.hook({ calls: ["flush"], pre: () => undefined });
    }).toThrow(/EAGAIN.*1000 hooks/);
  });
});

describe("mounts", () => {
  const driver = (more: object = {}) => {
    const files = new Map<string, Uint8Array>();
    return {
      name: "bucket",
      source: "test",
      readOnly: false,
      stat: async (path: string) => {
        const file = files.get(path);
        return path === "/" || file !== undefined
          ? {
              type: file === undefined ? ("directory" as const) : ("file" as const),
              size: file?.length ?? 0,
              generation: 0 as never,
              version: 0,
            }
          : undefined;
      },
      readdir: async () => [...files.keys()].map((name) => ({ name: name.slice(1), type: "file" as const })),
      read: async (path: string) => files.get(path) ?? new Uint8Array(0),
      write: async (path: string, bytes: Uint8Array) => {
        files.set(path, bytes);
        return { generation: 0 as never, size: bytes.length };
      },
      append: async (path: string, bytes: Uint8Array) => {
        const all = Buffer.concat([files.get(path) ?? new Uint8Array(0), bytes]);
        files.set(path, all);
        return { generation: 0 as never, size: all.length };
      },
      truncate: async (path: string, size: number) => {
        files.set(path, (files.get(path) ?? new Uint8Array(0)).slice(0, size));
        return { generation: 0 as never, size };
      },
      mkdir: async () => undefined,
      unlink: async (path: string) => void files.delete(path),
      rename: async (from: string, to: string) => {
        if (from === to) return;
        files.set(to, files.get(from) ?? new Uint8Array(0));
        files.delete(from);
      },
      close: async () => undefined,
      ...more,
    };
  };

  test("a driver comes in with its hooks and leaves with them; what is under way is waited for", async () => {
    const seen: string[] = [];
    let go: () => void = () => undefined;
    await kernel.mount(
      "/m",
      driver({
        mounted: (at: string) => seen.push(`mounted ${at}`),
        unmounting: (at: string) => seen.push(`unmounting ${at}`),
        close: async () => void seen.push("closed"),
        hookSpec: () => [{ calls: ["setattr"], paths: "/m/**", pre: () => void seen.push("hooked") }],
        readdir: async () => {
          await new Promise<void>((resolve) => (go = resolve));
          seen.push("listed");
          return [];
        },
      }),
    );
    await os.fs.mkdir("/m/d").catch(() => undefined);
    const listing = os.fs.readdir("/m");
    await turn();
    const leaving = kernel.unmount("/m");
    await turn();
    expect(seen).toEqual(["mounted /m", "hooked"]);
    go();
    await Promise.all([listing, leaving]);
    expect(seen.slice(2)).toEqual(["listed", "unmounting /m", "closed"]);
    await expect(kernel.unmount("/m")).rejects.toMatchObject({ code: "EINVAL" });
    expect(kernel.host.hooks.all).toEqual([]);
  });

  test("one that fails late takes nothing away from its successor", async () => {
    let fail: () => void = () => undefined;
    const late = kernel.mount(
      "/m",
      driver({ mounted: () => new Promise((_done, reject) => (fail = () => reject(new Error("no")))) }),
    );
    late.catch(() => undefined);
    await turn();
    const leaving = kernel.unmount("/m");
    const second = kernel.mount("/m", driver({ source: "second" }));
    fail();
    await second;
    await expect(late).rejects.toMatchObject({ code: "EIO" });
    await leaving;
    expect(kernel.mountAt("/m")?.source).toBe("second");
  });

  test("while a mount leaves nothing is written below it", async () => {
    let go: () => void = () => undefined;
    const slow = driver({
      readdir: async () => {
        await new Promise<void>((resolve) => (go = resolve));
        return [];
      },
    });
    await kernel.mount("/m", slow);
    const listing = os.fs.readdir("/m");
    await turn();
    const leaving = kernel.unmount("/m");
    const write = os.fs.writeFile("/m/x", "hidden");
    write.catch(() => undefined);
    go();
    await Promise.all([listing, leaving]);
    await expect(write).rejects.toMatchObject({ code: "ENODEV", path: "/m/x" });
    expect(await os.fs.exists("/m/x")).toBe(false);
  });

  test("answers that can be awaited without being promises have their time too", async () => {
    // As those of another library: to be awaited, and no promise.
    const never: object = {};
    Reflect.set(never, "then", () => undefined);
    await kernel.mount("/m", driver({ stat: (() => never) as never }), { timeoutMs: 20 });
    await expect(os.fs.stat("/m/x")).rejects.toMatchObject({ code: "ETIMEDOUT" });
    const out = kernel.hook({ calls: ["write"], timeoutMs: 20, pre: () => never });
    await expect(os.fs.writeFile("/srv/x", "")).rejects.toMatchObject({ code: "ETIMEDOUT" });
    out();
  });

  test("a driver's stat is held against what can be", async () => {
    for (const wrong of [42, "text", null, { type: "file", size: Number.NaN, generation: 0 }, { generation: 0 }]) {
      await kernel.mount("/m", driver({ stat: (() => Promise.resolve(wrong)) as never }));
      await expect(os.fs.stat("/m/x")).rejects.toMatchObject({ code: "EIO", path: "/m/x" });
      await kernel.unmount("/m");
    }
  });

  test("a driver that cannot come in leaves nothing behind", async () => {
    const broken = driver({
      mounted: () => Promise.reject(new Error("no network")),
      hookSpec: () => [{ pre: () => undefined }],
    });
    await expect(kernel.mount("/m", broken)).rejects.toMatchObject({ code: "EIO", path: "/m" });
    expect([kernel.mountAt("/m"), kernel.host.hooks.all]).toEqual([undefined, []]);
    await kernel.mount("/m", driver());
  });

  test("what a driver throws, lies or hangs at is an error of the table with the path", async () => {
    await kernel.mount(
      "/m",
      driver({
        stat: async () => ({ type: "file", size: 3, generation: 0, version: 0 }),
        readdir: async () => [{ name: "../etc", type: "file" }],
        read: async (path: string) =>
          path === "/long" ? new Uint8Array(1e6) : path === "/odd" ? "text" : Promise.reject(new Error("boom")),
        write: () => new Promise(() => undefined),
      }),
      { timeoutMs: 20 },
    );
    await expect(os.fs.readdir("/m")).rejects.toMatchObject({ code: "EIO", path: "/m" });
    await expect(os.fs.read("/m/long", { offset: 0, length: 3 })).rejects.toThrow(
      /1000000 bytes where 3 were asked for/,
    );
    await expect(os.fs.read("/m/odd")).rejects.toThrow(/string in the place of bytes/);
    await expect(os.fs.read("/m/x")).rejects.toMatchObject({ code: "EIO", path: "/m/x" });
    await expect(os.fs.write("/m/x", "1")).rejects.toMatchObject({ code: "ETIMEDOUT", path: "/m/x" });
  });

  test("read-only and a quota hold whatever the driver could do", async () => {
    await kernel.mount("/ro", driver(), { readOnly: true });
    await expect(os.fs.writeFile("/ro/x", "1")).rejects.toMatchObject({ code: "EROFS" });
    const inner = driver();
    await inner.write("/there", bytesOf("12345"));
    await kernel.mount("/q", inner, { quota: { bytes: 10, entries: 2 } });
    await os.fs.writeFile("/q/a", "12345");
    await expect(os.fs.writeFile("/q/a", "123456")).rejects.toMatchObject({ code: "ENOSPC", path: "/q/a" });
    await expect(os.fs.writeFile("/q/b", "")).rejects.toMatchObject({ code: "ENOSPC" });
    await os.fs.unlink("/q/there");
    await os.fs.writeFile("/q/a", "1234567890");
    await os.fs.rename("/q/a", "/q/b");
    await os.fs.rename("/q/b", "/q/b").catch(() => undefined);
    await expect(os.fs.writeFile("/q/b", "12345678901")).rejects.toMatchObject({ code: "ENOSPC" });
    const many = await Promise.allSettled([1, 2, 3].map((at) => os.fs.writeFile(`/q/c${at}`, "")));
    expect(many.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected", "rejected"]);
    expect((await os.fs.readdir("/q")).length).toBe(2);
    await expect(kernel.mount("/z", driver(), { quota: { bytes: -1 } })).rejects.toMatchObject({ code: "EINVAL" });
    expect(kernel.mountAt(toPath("/z"))).toBeUndefined();
  });
});
