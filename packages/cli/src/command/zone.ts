// `ergos zone`: the partitions of a data directory.

import { isOwned, removeZone } from "../boot.ts";
import { type Command, EXIT_OK, UsageError, required } from "../command.ts";
import { table } from "../terminal.ts";
import { zoneDirectory, zonesOf } from "../zone.ts";

export const zoneCommand: Command = {
  name: "zone",
  arguments: 2,
  summary: "list the zones of the data directory, or remove one",
  usage: "list | remove <zone>",
  examples: ["ergos run job.yaml --zone acme", "ergos ps --zone acme", "ergos zone list", "ergos zone remove acme"],
  run: async (invocation) => {
    const { dir, out } = invocation;
    const what = required(invocation, 0, "what to do: list or remove");
    if (what === "list") {
      const zones = zonesOf(dir).map((name) => ({ name, isOpen: isOwned(zoneDirectory(dir, name)) }));
      out.answer(zones, (list) =>
        list.length === 0
          ? "no zones beside the default one; --zone NAME of any command makes one"
          : table([["ZONE", ""], ...list.map(({ name, isOpen }) => [name, isOpen ? "open" : ""])]),
      );
      return EXIT_OK;
    }
    if (what !== "remove") throw new UsageError(`zone takes list or remove; found ${what}`);
    const zone = required(invocation, 1, "the zone to remove");
    removeZone(dir, zone);
    out.answer({ zone, done: "removed" }, () => `zone ${zone} is removed, with everything that was in it`);
    return EXIT_OK;
  },
};
