import { openKeys } from "@ergos/drivers/keys";
import { MemoryMetastore, MemoryObjectStore } from "@ergos/drivers/memory";
import {
  type Ask,
  type Entry,
  type Kernel,
  type KernelParts,
  type LogEntry,
  type Metastore,
  SEQ_ZERO,
  type Seq,
  type ShownRecord,
  isKernelError,
  verifyAudit,
} from "@ergos/kernel";
import { describe, expect, test } from "vitest";
import { bootKernel, openProgram, processWith } from "./kernel-fixture.ts";

const signer = openKeys();
const boot = (parts: Partial<KernelParts> = {}): Promise<Kernel> => bootKernel({ signer, ...parts });
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const codeOf = (error: unknown): string => (isKernelError(error) ? error.code : String(error));
const recordsOf = async (kernel: Kernel, call: string): Promise<readonly ShownRecord[]> =>
  (await kernel.os.call("auditLog", {})).filter((record) => record.call === call);
/** The oldest open question, once there is one. */
const asked = async (kernel: Kernel): Promise<Ask> => {
  for (let tries = 0; tries < 2000; tries++) {
    const [first] = await kernel.os.call("asks", {});
    if (first !== undefined) return first;
    await sleep(1);
  }
  throw new Error("nobody asked within two seconds");
};
/** Position of the newest entry of a log. */
const endOf = async (store: Metastore, log: string): Promise<Seq> =>
  (await store.readLog(log, { after: SEQ_ZERO, limit: 1000 })).at(-1)?.seq ?? SEQ_ZERO;

/** A store that counts how often it is read. */
class CountingStore extends MemoryMetastore {
  reads = 0;

  override get(key: string): Promise<Entry | undefined> {
    this.reads++;
    return super.get(key);
  }

  override readLog(
    log: string,
    options: { readonly after: Seq; readonly limit: number },
  ): Promise<readonly LogEntry[]> {
    this.reads++;
    return super.readLog(log, options);
  }
}

describe("what is recorded", () => {
  test("a resumption that fails is recorded as failed, and adds nothing to the budget", async () => {
    const kernel = await boot();
    const pid = await kernel.os.spawn(openProgram().program, { budget: { toolCalls: 1 } });

    await expect(kernel.os.resume(pid, { budget: { toolCalls: 5 } })).rejects.toMatchObject({ code: "EBUSY" });

    expect((await kernel.os.call("auditLog", {})).at(-1)).toMatchObject({ call: "resume", outcome: "failed" });
    expect(kernel.host.processes.get(pid)?.identity.budget).toEqual({ toolCalls: 1 });
    await kernel.close();
  });

  test("a person's no is one record", async () => {
    const kernel = await boot();
    const os = await processWith(kernel, ["self", "ask fs.write:/a", "fs.*"]);
    const write = os.fs.writeFile("/a", "x").catch(codeOf);

    await kernel.os.call("answer", { id: (await asked(kernel)).id, verdict: "deny" });

    expect(await write).toBe("EACCES");
    await sleep(10);
    expect(await recordsOf(kernel, "write")).toHaveLength(1);
    await kernel.close();
  });

  test("a budget's no is one record", async () => {
    const kernel = await boot();
    const { program, context } = openProgram();
    await kernel.os.spawn(program, { budget: { bytesWritten: 1 } });

    const outcome = await (await context).os.fs.writeFile("/a", "xxxx").catch(codeOf);

    expect(outcome).toBe("EDQUOT");
    await sleep(10);
    expect(await recordsOf(kernel, "write")).toHaveLength(1);
    await kernel.close();
  });

  test("the newest records are found without reading the whole trail", async () => {
    const store = new CountingStore();
    const kernel = await boot({ store });
    for (let at = 0; at < 3000; at++) await kernel.os.fs.writeFile("/a", "x");
    store.reads = 0;

    const records = await kernel.os.call("auditLog", { limit: 10 });

    expect(records).toHaveLength(10);
    expect(store.reads).toBeLessThan(100);
    await kernel.close();
  });
});

describe("what somebody has done to the store is found", () => {
  test("a payload and a newest seal that cannot be read are faults, not failures", async () => {
    const store = new MemoryMetastore();
    const kernel = await boot({ store });
    await kernel.os.fs.writeFile("/a", "x");
    await kernel.os.call("auditVerify", {});
    const [payload] = await store.scan({ from: "audit/", to: "audit0" }, { limit: 1 });
    if (payload === undefined) throw new Error("the write has left no payload");

    await store.commit({ puts: [{ key: payload.key, value: "garbled" }] });
    const garbled = await kernel.os.call("auditVerify", {});
    await store.commit({ puts: [payload, { key: "sys/audit-seal", value: "{" }] });
    const unsealed = await verifyAudit(store, kernel.host.platform, { signer });

    expect(garbled.fault?.what).toBe("payload altered");
    expect(unsealed.fault?.what).toBe("seal missing");
    await kernel.close();
  });

  test("a trail that is gone with all its seals is missed by the host that runs, and by the next one", async () => {
    const store = new MemoryMetastore();
    const objects = new MemoryObjectStore();
    const kernel = await boot({ store, objects });
    await kernel.os.fs.writeFile("/evil", "x");
    await kernel.host.audit.seal();

    // For this nobody needs a key.
    const logs = ["audit", "audit.seals"];
    const trims = await Promise.all(logs.map(async (log) => ({ log, through: await endOf(store, log) })));
    await store.commit({ trims, deletes: ["sys/audit-seal"] });
    const now = await kernel.os.call("auditVerify", {});
    // Nobody closes the first.
    const next = await boot({ store, objects });
    const later = await next.os.call("auditVerify", {});

    expect(now.fault?.what).toBe("seal missing");
    expect(later.fault?.what).toBe("seal missing");
    await next.close();
  });

  test("a store that is set back to an older copy is found by the head that is kept outside of it", async () => {
    let kept: string | undefined;
    const anchor = { read: () => kept, write: (head: string) => void (kept = head) };
    const store = new MemoryMetastore();
    const objects = new MemoryObjectStore();
    const first = await boot({ store, objects, anchor });
    await first.os.fs.writeFile("/a", "one");
    await first.close();
    const older = await copyOf(store);
    const second = await boot({ store: await copyOf(store), objects, anchor });
    await second.os.fs.writeFile("/a", "two");
    const whole = await second.os.call("auditVerify", {});
    await second.close();

    const third = await boot({ store: older, objects, anchor });
    const report = await third.os.call("auditVerify", {});

    expect(whole.fault).toBeUndefined();
    expect(report.fault?.what).toBe("seal missing");
    await third.close();
  });
});

async function copyOf(store: MemoryMetastore): Promise<MemoryMetastore> {
  const copy = new MemoryMetastore();
  for (const { puts, deletes, appends, trims } of await store.tail(SEQ_ZERO, { limit: 100_000 }))
    await copy.commit({ puts, deletes, appends, trims });
  return copy;
}
