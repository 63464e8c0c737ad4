// DBOS workflows of no-op steps on a PostgreSQL of their own, where one is installed.
import { execFileSync, spawn } from "node:child_process";
import { chownSync, globSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { once } from "node:events";
import { DBOS } from "@dbos-inc/dbos-sdk";

const freePort = async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
};

/** A server in a temporary folder, on loopback; undefined where PostgreSQL is not installed. */
async function startPostgres() {
  const [initdb] = globSync("/usr/lib/postgresql/*/bin/initdb");
  if (initdb === undefined) return undefined;
  const dir = mkdtempSync(join(tmpdir(), "ergos-bench-postgres-"));
  const as = {};
  if (process.getuid?.() === 0) {
    // PostgreSQL refuses to run as root.
    const [uid, gid] = ["-u", "-g"].map((flag) => Number(execFileSync("id", [flag, "postgres"], { encoding: "utf8" })));
    chownSync(dir, uid, gid);
    Object.assign(as, { uid, gid });
  }
  const data = join(dir, "data");
  execFileSync(initdb, ["-D", data, "-U", "bench", "--auth=trust", "-E", "UTF8"], { ...as, stdio: "ignore" });
  const port = await freePort();
  const server = spawn(join(initdb, "../postgres"), ["-D", data, "-h", "127.0.0.1", "-p", String(port), "-k", dir], {
    ...as,
    stdio: "ignore",
  });
  return {
    url: (name) => `postgresql://bench@127.0.0.1:${port}/${name}`,
    stop: async () => {
      server.kill("SIGTERM");
      await once(server, "exit");
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** Runs a durable chain of steps; undefined where PostgreSQL is not installed. */
export async function chain(length) {
  const postgres = await startPostgres();
  if (postgres === undefined) return undefined;
  const workflow = DBOS.registerWorkflow(async () => {
    for (let at = 0; at < length; at++) await DBOS.runStep(async () => 1, { name: `n${at}` });
  });
  DBOS.setConfig({ name: "bench", systemDatabaseUrl: postgres.url("dbos"), logLevel: "error", runAdminServer: false });
  for (let tries = 0; ; tries++) {
    try {
      await DBOS.launch();
      break;
    } catch (error) {
      if (tries > 50) throw error;
      await new Promise((go) => setTimeout(go, 100));
    }
  }
  return {
    run: () => workflow(),
    stop: async () => {
      await DBOS.shutdown();
      await postgres.stop();
    },
  };
}
