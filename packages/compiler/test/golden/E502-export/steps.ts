export const split = ({ text }: { text: string }): string[] => text.split(' ');
export async function search(): Promise<void> {}
