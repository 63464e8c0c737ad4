export const split = ({ text }: { text: string }): string[] => text.split(' ');
export async function search(): Promise<void> {}
const stop = (): number => 1;
const later = (): number => 2;
export {
  stop, // stops it
  /* and what comes later */ later as then_,
};
