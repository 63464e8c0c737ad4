// Profiles: each has what the one before it has, and a host is what its profile says.

import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { connect, PROFILES, type Profile } from "ergos";
import { expect, test } from "vitest";
import { useDirectory } from "./ergos-cli.ts";

const directory = useDirectory();
const names = Object.keys(PROFILES) as readonly (keyof typeof PROFILES)[];

test("each profile has what the one before it has, and more", () => {
  expect(names).toEqual(["slim", "embedded", "lite", "full"]);
  const sizeOf = ({ services, drivers, tools }: Profile): number => services.length + drivers.length + Number(tools);
  for (const [at, name] of names.entries()) {
    const [profile, smaller] = [PROFILES[name], PROFILES[names[at - 1] ?? name]];
    expect(profile.services).toEqual(expect.arrayContaining([...smaller.services]));
    expect(profile.drivers).toEqual(expect.arrayContaining([...smaller.drivers]));
    expect(Number(profile.tools)).toBeGreaterThanOrEqual(Number(smaller.tools));
    if (at > 0) expect(sizeOf(profile)).toBeGreaterThan(sizeOf(smaller));
  }
});

test.each(names)("a host of profile %s has that and no more, and runs programs", async (name) => {
  const profile: Profile = PROFILES[name];
  const has = (driver: Profile["drivers"][number]): boolean => profile.drivers.includes(driver);
  const dir = join(directory.path, ".ergos");
  const module = join(directory.path, "agent.mjs");
  writeFileSync(module, "export default (input) => input.n + 1;\n");
  await using os = await connect({ dir, profile: name });
  const services = (await os.call("services", {})).map((service) => service.name).toSorted();
  expect(services).toEqual([...profile.services].toSorted());
  const outcome = async (work: Promise<unknown>): Promise<unknown> =>
    work.then(
      () => "done",
      (error: unknown) => (error as { readonly code: string }).code,
    );
  const made = (on: boolean): string => (on ? "done" : "ENOTSUP");
  expect(await os.run({ module }, { input: { n: 1 } })).toBe(2);
  for (const runtime of ["worker", "process"] as const)
    expect(await outcome(os.run({ module, runtime }, { input: { n: 1 } }))).toBe(made(has(`runtime-${runtime}`)));
  const cron = os.call("schedule", { cron: "0 7 * * *", action: { spawn: { program: { module } } } });
  expect(await outcome(cron)).toBe(made(has("calendar")));
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  const fetched = os.run(async (_input: unknown, ctx) => ctx.fetch("page", `http://127.0.0.1:${port}/`));
  expect(await outcome(fetched)).toBe(has("net") ? "ECONNREFUSED" : "ENOTSUP");
  expect((await os.fs.readdir("/lib/tools")).length > 0).toBe(profile.tools);
  const folder = connect({ profile: name, mounts: [{ at: "/mnt", path: directory.path }] }).then((other) =>
    other.close(),
  );
  expect(await outcome(folder)).toBe(made(has("folder")));
  const other = connect({ dir, profile: "remote" }).then((remote) => remote.close());
  expect(await outcome(other)).toBe(has("control-socket") ? "done" : "EBUSY");
});

test("with remote a running host is talked to, and none is made", async () => {
  const dir = join(directory.path, ".ergos");
  await expect(connect({ profile: "remote" })).rejects.toMatchObject({ code: "EINVAL" });
  await expect(connect({ dir, profile: "remote" })).rejects.toMatchObject({ code: "ENOENT" });
  await using host = await connect({ dir });
  await using remote = await connect({ dir, profile: "remote" });
  expect([host.isRemote, remote.isRemote]).toEqual([false, true]);
  await host.fs.writeFile("/srv/a", "x");
  expect(await remote.fs.readText("/srv/a")).toBe("x");
  await expect(connect({ profile: "huge" as never })).rejects.toMatchObject({ code: "EINVAL" });
});
