/** Runs beside each other that begin every row together: what happens to one is in the same moments as what happens to the others. */
export class Lockstep {
  private readonly arrived: (() => void)[] = [];

  /** `members`: how many runs there are, 1 or more. */
  constructor(private members: number) {}

  /** Until all the others have come as far, or left. */
  async arrive(): Promise<void> {
    const together = new Promise<void>((resolve) => this.arrived.push(resolve));
    this.goOn();
    await together;
  }

  /** A run that has ended, well or not, is not waited for. */
  leave(): void {
    this.members--;
    this.goOn();
  }

  private goOn(): void {
    if (this.arrived.length < this.members) return;
    for (const resolve of this.arrived.splice(0)) resolve();
  }
}
