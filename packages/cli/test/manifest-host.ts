// Manifests in a folder of their own, run by a host, and what their functions have noted there.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { type ErgOs, connect } from "ergos";
import { expect } from "vitest";
import { useDirectory } from "./ergos-cli.ts";

/** A fresh folder for each test of a file, and what is done with manifests in it. */
export function useManifests() {
  const folder = useDirectory();
  const file = (name: string, text: string): string => {
    const path = join(folder.path, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
    return path;
  };
  const manifest = (spec: string, name = "in.yaml"): { readonly module: string } => ({
    module: file(name, `apiVersion: ergos/v1\nkind: Pipeline\nmetadata: { name: sample }\nspec:\n${spec}`),
  });
  const lines = (name: string): readonly string[] =>
    existsSync(join(folder.path, name))
      ? readFileSync(join(folder.path, name), "utf8")
          .split("\n")
          .filter((line) => line !== "")
      : [];
  /** A module whose functions note their calls in a file beside it. */
  const steps = (functions: string): string =>
    file(
      "steps.ts",
      `import { appendFileSync, existsSync } from "node:fs";\nconst note = (text: string): void => appendFileSync(${JSON.stringify(join(folder.path, "calls"))}, text + "\\n");\n${functions}`,
    );
  const run = async (spec: string, input?: unknown, options: Parameters<typeof connect>[0] = {}): Promise<unknown> => {
    await using os = await connect(options);
    return await os.run(manifest(spec), input === undefined ? {} : { input });
  };
  const until = async (condition: () => boolean): Promise<void> => {
    for (let turn = 0; turn < 500 && !condition(); turn++) await new Promise((go) => setTimeout(go, 10));
    expect(condition()).toBe(true);
  };

  /** Runs until a note was made, ends the host as a crash would leave it asleep, and resumes in a new one. */
  async function interrupted(
    spec: string,
    note: string,
    between: () => void = () => undefined,
    input: unknown = {},
  ): Promise<unknown> {
    const data = join(folder.path, "data");
    const first = await connect({ dir: data, serve: false });
    const pid = await first.spawn(manifest(spec), { input });
    await until(() => lines("calls").includes(note));
    await first.close();
    between();
    await using second: ErgOs = await connect({ dir: data, serve: false });
    const exit = await second.wait(pid);
    if (exit.error !== undefined) throw new TypeError(exit.error.message);
    return exit.result;
  }

  return { folder, file, manifest, lines, steps, run, until, interrupted };
}
