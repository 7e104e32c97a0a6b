//! The processor: starting it, its MMU, and accesses that may trap.

use core::arch::{asm, global_asm};

use mmu_core::{BusAddr, Invalidate, Stale};

/// A load from an address that is not mapped.
pub(crate) const LOAD_PAGE_FAULT: u64 = 13;
/// A store to an address that is not mapped, or not to be written.
pub(crate) const STORE_PAGE_FAULT: u64 = 15;

// The machine starts in machine mode. Supervisor mode may use all of memory (PMP), gets its traps
// itself, and has floating point switched on, which the compiler uses.
global_asm!(
    r#"
    .section .text.start, "ax"
    .globl _start
_start:
    la      sp, _stack_top
    la      t0, _bss_start
    la      t1, _bss_end
1:  bgeu    t0, t1, 2f
    sd      zero, 0(t0)
    addi    t0, t0, 8
    j       1b
2:  li      t0, -1
    csrw    pmpaddr0, t0
    li      t0, 0x1f
    csrw    pmpcfg0, t0
    li      t0, 0xffff
    csrw    medeleg, t0
    la      t0, trap
    csrw    stvec, t0
    csrw    mtvec, t0
    csrw    satp, zero
    li      t0, 0x3 << 11
    csrc    mstatus, t0
    li      t0, (1 << 11) | (1 << 13)
    csrs    mstatus, t0
    la      t0, supervisor
    csrw    mepc, t0
    mret

    .section .text.probe, "ax"
    .option push
    .option norvc
    .globl probe_load
probe_load:
    li      t0, 0
probe_load_at:
    ld      a0, 0(a0)
    mv      a1, t0
    ret
    .globl probe_store
probe_store:
    li      t0, 0
probe_store_at:
    sd      a1, 0(a0)
    mv      a1, t0
    ret
    .balign 4
trap:
    csrr    t1, sepc
    la      t2, probe_load_at
    beq     t1, t2, 1f
    la      t2, probe_store_at
    beq     t1, t2, 1f
    la      sp, _stack_top
    csrr    a0, scause
    csrr    a1, sepc
    csrr    a2, stval
    j       unexpected_trap
1:  csrr    t0, scause
    addi    t1, t1, 4
    csrw    sepc, t1
    sret
    .option pop
"#
);

#[repr(C)]
struct Probed {
    value: u64,
    cause: u64,
}

unsafe extern "C" {
    /// Loads a word; the cause is that of the trap, or zero.
    fn probe_load(at: u64) -> Probed;
    /// Stores a word; the cause is that of the trap, or zero.
    fn probe_store(at: u64, value: u64) -> Probed;
}

/// Loads the word at an address, which is aligned.
///
/// # Errors
///
/// The cause of the trap.
pub(crate) fn load(at: u64) -> Result<u64, u64> {
    // SAFETY: a load changes nothing, and where it traps the handler goes on behind it. What is
    // mapped is memory that nothing here has a `&mut` to.
    let Probed { value, cause } = unsafe { probe_load(at) };
    if cause == 0 { Ok(value) } else { Err(cause) }
}

/// Stores a word at an address, which is aligned and that of marked memory, if of any.
///
/// # Errors
///
/// The cause of the trap.
pub(crate) fn store(at: u64, value: u64) -> Result<(), u64> {
    // SAFETY: the compiler knows nothing of marked memory, which lies outside of the image, so that
    // no reference to it exists. Where the store traps the handler goes on behind it.
    let Probed { cause, .. } = unsafe { probe_store(at, value) };
    if cause == 0 { Ok(()) } else { Err(cause) }
}

/// The one processor, and its MMU.
pub(crate) struct Processor;

impl Processor {
    /// Drops all that the processor has cached of the tables.
    pub(crate) fn forget() {
        // With the planted fault, what was unmapped is found as long as the processor remembers it.
        #[cfg(not(feature = "planted-fault"))]
        // SAFETY: forgetting translations changes nothing but the time of the next access.
        unsafe {
            asm!("sfence.vma")
        };
    }

    /// Translates by the tables below `root` from here on.
    pub(crate) fn translate_by(root: BusAddr) {
        const SV39: u64 = 8 << 60;
        let satp = SV39 | root.get() >> 12;
        // SAFETY: the tables map the image to where it is, with all rights, so that what comes next
        // is the same code with the same stack. The fences keep what was cached before out of it.
        unsafe {
            asm!("sfence.vma", "csrw satp, {satp}", "sfence.vma", satp = in(reg) satp);
        }
    }
}

// SAFETY: the instruction drops every translation that this processor has cached, of which there is
// one; it orders the stores to the tables before it, and no access of the processor is under way
// behind it that was translated before.
unsafe impl Invalidate for Processor {
    type Error = core::convert::Infallible;

    fn invalidate(&mut self, _stale: &Stale) -> Result<(), Self::Error> {
        Self::forget();
        Ok(())
    }
}

#[unsafe(no_mangle)]
extern "C" fn unexpected_trap(cause: u64, at: u64, value: u64) -> ! {
    defmt::error!(
        "trap {=u64} at {=u64:#x}, value {=u64:#x}",
        cause,
        at,
        value
    );
    defmt::error!("verdict: FAIL: an unexpected trap");
    semihosting::process::exit(2)
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let line = info.location().map_or(0, |location| location.line());
    defmt::error!("verdict: FAIL: panic in line {}", line);
    semihosting::process::exit(3)
}

struct OneProcessor;
critical_section::set_impl!(OneProcessor);

// SAFETY: there is one processor, and interrupts are never switched on.
unsafe impl critical_section::Impl for OneProcessor {
    unsafe fn acquire() -> critical_section::RawRestoreState {}

    unsafe fn release(_token: critical_section::RawRestoreState) {}
}
