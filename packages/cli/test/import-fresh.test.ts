import { spawn } from "node:child_process";
import { once } from "node:events";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { BIN, environment, runErgos, useDirectory } from "./ergos-cli.ts";

const directory = useDirectory();

test("a host that stays runs modules as they are now, and those that they import", async () => {
  const cwd = directory.path;
  const write = (name: string, text: string): void => writeFileSync(join(cwd, name), text);
  const run = (): unknown => JSON.parse(runErgos(["run", "top.ts", "--json"], { cwd }).stdout);
  write("top.ts", `import { one } from "./one.ts";\nexport default (): string => one();\n`);
  write("one.ts", `export * from './two.ts';\n`);
  write("two.ts", `export const one = (): string => "first";\n`);
  const up = spawn(process.execPath, [BIN, "up"], { cwd, env: environment(), stdio: "ignore" });
  try {
    await expect.poll(() => runErgos(["ps"], { cwd }).status, { timeout: 10_000 }).toBe(0);

    expect(run()).toMatchObject({ result: "first" });
    write("two.ts", `export const one = (): string => "second";\n`);
    expect(run()).toMatchObject({ result: "second" });
    write("top.ts", `import { one } from "./one.ts";\nexport default (): string => one() + "!";\n`);
    expect(run()).toMatchObject({ result: "second!" });
    write("two.ts", "export const one = ((\n");
    const broken = run() as { readonly error: { readonly message: string } };
    expect(broken.error.message).toMatch(/cannot be loaded: .* \(.*two\.ts:\d+\)/u);
    rmSync(join(cwd, "two.ts"));
    expect(run()).toMatchObject({ error: { code: "ENOEXEC" } });
  } finally {
    const over = once(up, "exit");
    up.kill("SIGTERM");
    await over;
  }
});
