// A PostgreSQL of its own in a temporary folder, on loopback; undefined where it is not installed.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chownSync, globSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface PostgresServer {
  url(database: string): string;
  /** Ends every connection, as a crash of the server does. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

export const postgresMissing = (): string | undefined =>
  globSync("/usr/lib/postgresql/*/bin/initdb").length > 0
    ? undefined
    : "PostgreSQL (Debian: postgresql) is not installed";

export async function startPostgres(): Promise<PostgresServer> {
  const [initdb = ""] = globSync("/usr/lib/postgresql/*/bin/initdb");
  const dir = mkdtempSync(join(tmpdir(), "ergos-postgres-"));
  const as = userFor(dir);
  const data = join(dir, "data");
  execFileSync(initdb, ["-D", data, "-U", "test", "--auth=trust", "-E", "UTF8", "--no-sync"], {
    ...as,
    stdio: "ignore",
  });
  const port = await freePort();
  const start = async () => {
    const server = spawn(join(initdb, "../postgres"), ["-D", data, "-h", "127.0.0.1", "-p", String(port), "-k", dir], {
      ...as,
      stdio: "ignore",
    });
    const ready = join(initdb, "../pg_isready");
    for (let tries = 0; tries < 200; tries++) {
      try {
        execFileSync(ready, ["-h", "127.0.0.1", "-p", String(port), "-q"], { stdio: "ignore" });
        return server;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
    throw new TypeError("PostgreSQL does not start");
  };
  let server = await start();
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    const over = once(server, "exit");
    server.kill(signal);
    await over;
  };
  return {
    url: (database) => `postgresql://test@127.0.0.1:${port}/${database}`,
    restart: async () => {
      await end("SIGQUIT");
      server = await start();
    },
    stop: async () => {
      await end("SIGINT");
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** PostgreSQL refuses to run as root. */
function userFor(dir: string): { readonly uid?: number; readonly gid?: number } {
  if (process.getuid?.() !== 0) return {};
  const idOf = (flag: string): number => Number(execFileSync("id", [flag, "postgres"], { encoding: "utf8" }));
  const [uid, gid] = [idOf("-u"), idOf("-g")];
  chownSync(dir, uid, gid);
  return { uid, gid };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { readonly port: number };
  server.close();
  await once(server, "close");
  return port;
}
