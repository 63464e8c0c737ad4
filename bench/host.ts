// Hosts for benchmarks: a fresh data directory each, removed at the end.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type BootedHost, type HostOptions, bootHost } from "ergos";

export async function withHost<T>(
  options: Omit<HostOptions, "dir"> & { readonly inMemory?: boolean },
  work: (host: BootedHost, dir: string) => Promise<T>,
): Promise<T> {
  const dir = mkdtempSync(join(tmpdir(), "ergos-bench-"));
  const { inMemory, ...rest } = options;
  const host = await bootHost({ serve: false, ...rest, ...(inMemory === true ? {} : { dir: join(dir, "data") }) });
  try {
    return await work(host, dir);
  } finally {
    await host.close();
    rmSync(dir, { recursive: true, force: true });
  }
}
