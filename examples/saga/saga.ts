// A trip of several bookings: all of them stand in the end, or none. What was booked is taken back when a later booking
// fails, when a person does not agree, and when the run is cancelled while it waits, or while no host runs it; and after a
// crash of its host in the middle of that, too. Bookings are files here, below /srv/trips.
//
//   ergos run examples/saga                       asks; from another terminal: ergos answer 1 --reply pay
//   ergos run examples/saga --input trip=oslo     and then, from another one:  ergos kill 3 && ergos ls /srv/trips/oslo
//   ergos run examples/saga --input soldOut=car   takes flight and hotel back

import { type RunContext, program } from "ergos";

export interface TripInput {
  readonly trip?: string;
  /** What is sold out, to see a booking fail. */
  readonly soldOut?: string;
}

const PARTS = ["flight", "hotel", "car"] as const;

export default program("saga", book, { endsAwake: true });

async function book(
  { trip = "rome", soldOut }: TripInput,
  ctx: RunContext<TripInput>,
): Promise<{ readonly booked: readonly string[] }> {
  const booked: string[] = [];
  const pathOf = (part: string): string => `/srv/trips/${trip}/${part}`;
  try {
    for (const part of PARTS) {
      // Known before it is booked: whoever dies in between takes back what may be there.
      booked.push(part);
      await ctx.step(`book ${part}`, async () => {
        if (part === soldOut) throw new Error(`${part} is sold out`);
        await ctx.os.fs.writeFile(pathOf(part), `${part} to ${trip}\n`);
      });
    }
    const answer = await ctx.ask("pay", `Pay for the trip to ${trip}?`, { choices: ["pay", "cancel"] });
    if (answer === "cancel") throw new Error(`nobody wants to pay for ${trip}`);
    return { booked };
  } catch (error) {
    // Also when the process was told to end: its end waits for this.
    await ctx.shield(async (own) => {
      for (const part of booked.toReversed())
        await own.step(`take back ${part}`, async () => {
          if (await own.os.fs.exists(pathOf(part))) await own.os.fs.unlink(pathOf(part));
        });
      // Whoever tries the run again books anew.
      await own.forget();
    });
    throw error;
  }
}
