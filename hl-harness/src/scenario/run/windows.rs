//! Steps of the driver about windows: addresses at which it maps something of its own.

use hl_mem::device::{MapWindowError, PrivilegedWindow, UnmapWindowError, WindowMemory};
use hl_mem::host::{DmaAddr, DmaRun};
use hl_mem::uapi::Errno;
use mmu_core::{BusAddr, DeviceAddr, Run};

use super::super::ast::{Name, Outcome, WindowMemoryWords, WindowPlace};
use super::super::text::{Invalid, Span};
use super::super::words::WindowWord;
use super::answer::Answer;
use super::env::key_text;
use super::stop::Stop;
use super::{Runner, Words};
use crate::host::{FRAME_SIZE, KernelBlock};
use crate::machine::Model;

/// Bytes that a window may have; the largest of an ASIC has 256 MiB.
const MAX_WINDOW: u64 = 1 << 30;

/// A window with what is mapped there.
pub(crate) struct Window {
    /// Which of the privileged space it is; a user's goes with his file.
    privileged: Option<PrivilegedWindow>,
    /// Pages of the host behind it.
    _pages: Option<KernelBlock>,
}

/// What keeps the driver from mapping a window has no errno of its own.
fn errno(error: MapWindowError) -> Errno {
    match error {
        MapWindowError::NoWindow => Errno::EOPNOTSUPP,
        MapWindowError::Occupied => Errno::EBUSY,
        MapWindowError::TooManyMappings => Errno::ENOMEM,
        MapWindowError::Mmu(error) => error.into(),
        MapWindowError::Lost => Errno::EBUSY,
        MapWindowError::Reset => Errno::ENODEV,
        _ => Errno::EINVAL,
    }
}

impl<A: Model> Runner<'_, '_, '_, '_, A> {
    pub(super) fn map_window(
        &mut self,
        span: Span,
        (place, memory, name): (&WindowPlace, &WindowMemoryWords, &Name),
        outcome: &Outcome,
    ) -> Words {
        let (memory, pages) = self.window_memory(memory)?;
        let machine = self.machine();
        let (answer, privileged) = match place {
            WindowPlace::Privileged(window) => {
                let window = match window {
                    WindowWord::Firmware => PrivilegedWindow::Firmware,
                    WindowWord::Processor => PrivilegedWindow::Processor,
                };
                let privilege = &machine.privilege;
                match machine.device.map_window(privilege, window, memory) {
                    Ok(_) => (Answer::Done, Some(window)),
                    // The device may have seen it, so it has to be unmapped.
                    Err(error @ MapWindowError::Mmu(_)) => {
                        (Answer::Errno(errno(error)), Some(window))
                    }
                    Err(error) => (Answer::Errno(errno(error)), None),
                }
            }
            WindowPlace::User(context, at) => {
                let at = DeviceAddr::new(self.eval(at)?);
                let file = self.file(context)?;
                let mapped = file.context.map_window(&machine.privilege, at, memory);
                let answer = match mapped {
                    Ok(at) => Answer::Value(at.get()),
                    Err(error) => Answer::Errno(errno(error)),
                };
                (answer, None)
            }
        };
        if privileged.is_some() || matches!(answer, Answer::Done | Answer::Value(_)) {
            let window = Window {
                privileged,
                _pages: pages,
            };
            let key = self.key(name)?;
            // What had the name before may still be mapped, and is kept to the end.
            self.windows.entry(key).or_default().push(window);
        }
        self.judge(span, outcome, answer)
    }

    fn window_memory(
        &mut self,
        words: &WindowMemoryWords,
    ) -> Result<(WindowMemory, Option<KernelBlock>), Stop> {
        match words {
            WindowMemoryWords::Device(start, size) => {
                let (at, bytes) = (self.eval(start)?, self.eval(size)?);
                let run = Run::new(BusAddr::new(at), bytes);
                let run = run.ok_or_else(|| Invalid::new(size.span, "this is no memory"))?;
                Ok((WindowMemory::Device(run), None))
            }
            WindowMemoryWords::Host(size) => {
                let bytes = self.eval_small(size, MAX_WINDOW)?;
                let pages = bytes.div_ceil(FRAME_SIZE);
                let host = &self.machine().host;
                // On a boundary of large leaves where there can be one.
                let align = if pages >= 512 { 512 } else { 1 };
                let block = host.kernel_contiguous(pages, align, "window");
                let block = block.map_err(|error| Invalid::new(size.span, error))?;
                let start = DmaAddr::new(host.bus_address(block.frames()[0]).get());
                let run = DmaRun::new(start, block.len() as u64);
                let run = run.ok_or_else(|| Invalid::new(size.span, "this is no memory"))?;
                Ok((WindowMemory::Host(run), Some(block)))
            }
        }
    }

    pub(super) fn unmap_window(&mut self, span: Span, name: &Name, outcome: &Outcome) -> Words {
        let key = self.key(name)?;
        let window = self.windows.get_mut(&key).and_then(Vec::pop);
        let Some(Window {
            privileged: Some(privileged),
            _pages,
        }) = window
        else {
            let message = format_args!("there is no privileged window `{}` now", key_text(&key));
            return Err(Invalid::new(name.span, message).into());
        };
        let machine = self.machine();
        let unmapped = machine.device.unmap_window(&machine.privilege, privileged);
        let answer = match unmapped {
            Ok(()) => Answer::Done,
            Err(error) => {
                let privileged = Some(privileged);
                let window = Window { privileged, _pages };
                self.windows.entry(key).or_default().push(window);
                Answer::Errno(match error {
                    UnmapWindowError::Unconfirmed(reason) => reason.into(),
                    _ => Errno::EPERM,
                })
            }
        };
        self.judge(span, outcome, answer)
    }

    /// Unmaps what is left of the privileged windows, and gives up the pages behind all of them.
    pub(super) fn end_windows(&mut self, last: Span) -> Result<(), Stop> {
        let machine = self.machine();
        for window in core::mem::take(&mut self.windows).into_values().flatten() {
            let Some(privileged) = window.privileged else {
                continue;
            };
            let unmapped = machine.device.unmap_window(&machine.privilege, privileged);
            if let Err(error) = unmapped {
                let expected = "the end: every window can be unmapped";
                return Err(super::stop::Failure::new(last, expected, error).into());
            }
        }
        Ok(())
    }
}
