//! Guests of one sector: 16-bit programs that the firmware starts, put together
//! here from what the processor reads.

/// Where the firmware puts a boot sector.
const ORIGIN: u16 = 0x7c00;

/// The first serial port, and what it is ready for.
const COM1: u16 = 0x3f8;
const COM1_STATUS: u16 = 0x3fd;
const HAS_BYTE: u8 = 1;
const TAKES_BYTE: u8 = 0x20;

/// ACPI's registers for power on QEMU's `q35`.
const PM1_STATUS: u16 = 0x600;
const PM1_ENABLE: u16 = 0x602;
const PM1_CONTROL: u16 = 0x604;
const POWER_BUTTON: u16 = 0x100;
/// Sleep, of the kind 0: off.
const SLEEP_OFF: u16 = 0x2000;

/// Where a paravirtual guest says that it panicked.
const PVPANIC: u16 = 0x505;

/// The chipset's reset.
const RESET: u16 = 0xcf9;

/// What an obedient guest prints once it listens.
pub(crate) const READY: &str = "READY";

/// A guest that does what it is told at its console: `s` shut down, `p` panic,
/// `r` reset, `d` be deaf to the power button; and what it does not know it
/// prints. On the power button it shuts down.
pub(crate) fn obedient() -> Vec<u8> {
    let mut code = Code::new();
    code.set_data_segment();
    // The firmware's own handler would read the console.
    code.on_timer("timer");
    code.out16(PM1_ENABLE, POWER_BUTTON);
    code.print(READY);
    code.label("loop");
    code.wait_for_timer();
    code.in16(PM1_STATUS);
    code.if_any16(POWER_BUTTON, "off");
    code.in8(COM1_STATUS);
    code.unless_any8(HAS_BYTE, "loop");
    code.in8(COM1);
    for (byte, label) in
        [(b's', "off"), (b'p', "panic"), (b'r', "reset"), (b'd', "deaf")]
    {
        code.if_is(byte, label);
    }
    code.out_again();
    code.jump("loop");
    code.label("off");
    code.out16(PM1_CONTROL, SLEEP_OFF);
    code.label("rest");
    code.halt();
    code.jump("rest");
    code.label("panic");
    code.out8(PVPANIC, 1);
    code.jump("loop");
    code.label("reset");
    code.out8(RESET, 6);
    code.jump("rest");
    code.label("deaf");
    code.out16(PM1_ENABLE, 0);
    code.jump("loop");
    code.timer_handler("timer");
    code.sector()
}

/// A guest that prints a line and resets, again and again.
pub(crate) fn restless() -> Vec<u8> {
    let mut code = Code::new();
    code.print("AGAIN\n");
    code.out8(RESET, 6);
    code.label("rest");
    code.halt();
    code.jump("rest");
    code.sector()
}

/// A guest that prints a line and shuts down.
pub(crate) fn brief() -> Vec<u8> {
    let mut code = Code::new();
    code.print("BRIEF\n");
    code.out16(PM1_CONTROL, SLEEP_OFF);
    code.label("rest");
    code.halt();
    code.jump("rest");
    code.sector()
}

/// A guest that prints without an end.
pub(crate) fn talkative() -> Vec<u8> {
    let mut code = Code::new();
    code.out16(PM1_ENABLE, POWER_BUTTON);
    code.label("loop");
    code.print("BLAH");
    code.in16(PM1_STATUS);
    code.if_any16(POWER_BUTTON, "off");
    code.jump("loop");
    code.label("off");
    code.out16(PM1_CONTROL, SLEEP_OFF);
    code.label("rest");
    code.halt();
    code.jump("rest");
    code.sector()
}

/// What no firmware boots.
pub(crate) fn blank() -> Vec<u8> {
    vec![0; 512]
}

/// A program, instruction by instruction.
struct Code {
    bytes: Vec<u8>,
    labels: Vec<(&'static str, usize)>,
    /// Bytes that are to say how far a label is from what follows them.
    near: Vec<(&'static str, usize)>,
    /// Words that are to say where a label is.
    absolute: Vec<(&'static str, usize)>,
}

impl Code {
    /// Begins with interrupts off.
    fn new() -> Self {
        let (labels, near, absolute) = (Vec::new(), Vec::new(), Vec::new());
        Self { bytes: vec![0xfa], labels, near, absolute }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn label(&mut self, name: &'static str) {
        self.labels.push((name, self.bytes.len()));
    }

    fn near(&mut self, opcode: u8, label: &'static str) {
        self.add(&[opcode, 0]);
        self.near.push((label, self.bytes.len() - 1));
    }

    /// `xor ax, ax; mov ds, ax`
    fn set_data_segment(&mut self) {
        self.add(&[0x31, 0xc0, 0x8e, 0xd8]);
    }

    /// `mov word [8 * 4], label; mov word [8 * 4 + 2], 0`
    fn on_timer(&mut self, label: &'static str) {
        self.add(&[0xc7, 0x06, 0x20, 0x00, 0, 0]);
        self.absolute.push((label, self.bytes.len() - 2));
        self.add(&[0xc7, 0x06, 0x22, 0x00, 0, 0]);
    }

    /// `push ax; mov al, 0x20; out 0x20, al; pop ax; iret`
    fn timer_handler(&mut self, label: &'static str) {
        self.label(label);
        self.add(&[0x50, 0xb0, 0x20, 0xe6, 0x20, 0x58, 0xcf]);
    }

    /// `sti; hlt; cli`
    fn wait_for_timer(&mut self) {
        self.add(&[0xfb, 0xf4, 0xfa]);
    }

    /// `hlt`
    fn halt(&mut self) {
        self.add(&[0xf4]);
    }

    /// `mov dx, port`
    fn port(&mut self, port: u16) {
        self.add(&[0xba]);
        self.add(&port.to_le_bytes());
    }

    /// `in al, dx`
    fn in8(&mut self, port: u16) {
        self.port(port);
        self.add(&[0xec]);
    }

    /// `in ax, dx`
    fn in16(&mut self, port: u16) {
        self.port(port);
        self.add(&[0xed]);
    }

    /// `mov al, byte; out dx, al`
    fn out8(&mut self, port: u16, byte: u8) {
        self.port(port);
        self.add(&[0xb0, byte, 0xee]);
    }

    /// `mov ax, word; out dx, ax`
    fn out16(&mut self, port: u16, word: u16) {
        self.port(port);
        self.add(&[0xb8]);
        self.add(&word.to_le_bytes());
        self.add(&[0xef]);
    }

    /// `out dx, al`
    fn out_again(&mut self) {
        self.add(&[0xee]);
    }

    /// `test ax, bits; jnz label`
    fn if_any16(&mut self, bits: u16, label: &'static str) {
        self.add(&[0xa9]);
        self.add(&bits.to_le_bytes());
        self.near(0x75, label);
    }

    /// `test al, bits; jz label`
    fn unless_any8(&mut self, bits: u8, label: &'static str) {
        self.add(&[0xa8, bits]);
        self.near(0x74, label);
    }

    /// `cmp al, byte; jz label`
    fn if_is(&mut self, byte: u8, label: &'static str) {
        self.add(&[0x3c, byte]);
        self.near(0x74, label);
    }

    /// `jmp label`
    fn jump(&mut self, label: &'static str) {
        self.near(0xeb, label);
    }

    /// Prints on the serial port, each byte once the port takes it: `mov dx,
    /// status; again: in al, dx; test al, ready; jz again; mov dx, port; mov
    /// al, byte; out dx, al`
    fn print(&mut self, text: &str) {
        for byte in text.bytes() {
            self.port(COM1_STATUS);
            self.add(&[0xec, 0xa8, TAKES_BYTE, 0x74, 0xfb]);
            self.out8(COM1, byte);
        }
    }

    fn place(&self, label: &str) -> usize {
        let mut labels = self.labels.iter();
        labels.find(|(name, _)| *name == label).unwrap().1
    }

    fn sector(mut self) -> Vec<u8> {
        for (label, at) in self.near.clone() {
            let after = i64::try_from(at + 1).unwrap();
            let distance = i64::try_from(self.place(label)).unwrap() - after;
            self.bytes[at] = i8::try_from(distance).unwrap().to_le_bytes()[0];
        }
        for (label, at) in self.absolute.clone() {
            let place = ORIGIN + u16::try_from(self.place(label)).unwrap();
            self.bytes[at..at + 2].copy_from_slice(&place.to_le_bytes());
        }
        assert!(self.bytes.len() <= 510, "more than a sector");
        self.bytes.resize(510, 0);
        self.add(&[0x55, 0xaa]);
        self.bytes
    }
}
