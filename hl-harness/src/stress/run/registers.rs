//! Registers that users have handles for and are shown.

use hl_mem::handle::RawHandle;
use hl_mem::uapi::{self, Errno, MemoryInput, OP_MAP_BLOCK};

use super::super::model::{Expected, Named};
use super::super::scribe::Handles;
use super::Epoch;
use crate::machine;

impl<A: machine::Model> Epoch<'_, '_, '_, A> {
    /// Asks for a handle for registers, by their address or by one beside it.
    pub(super) fn registers(&mut self, user: usize, which: u64) -> Result<(), String> {
        let (address, pages) = self.rules.registers.unwrap_or((machine::USER_REGISTERS, 0));
        let address = match which % 5 {
            0 => address + self.rules.page,
            _ => address,
        };
        let handles = &self.model.files[user].handles;
        let known = handles
            .iter()
            .find(|(_, named)| **named == Named::Registers);
        let known = known.map(|(handle, _)| *handle);
        let expected = match self.rules.registers {
            None => Expected::Refused(Errno::EPERM),
            Some((at, _)) if at != address => Expected::Refused(Errno::EINVAL),
            Some(_) if known.is_none() && handles.len() >= self.rules.handles => {
                Expected::Refused(Errno::ENOMEM)
            }
            Some(_) => Expected::Done,
        };
        self.scribe
            .step(format_args!("registers u[{user}] {address:#x}"));
        let input = MemoryInput {
            arguments: [address, 0, 0],
            op: OP_MAP_BLOCK,
            ..MemoryInput::default()
        };
        let got = uapi::dispatch(self.context(user)?, &input.to_bytes());
        self.check(expected, None, &got)?;
        let Ok(reply) = got else {
            return Ok(());
        };
        if u64::from(reply.block_size) != pages * self.rules.page {
            return Err(format!("registers of {:#x} bytes", reply.block_size));
        }
        match known {
            None => {
                self.scribe.made(Handles::Objects, reply.value);
                self.add_handle(user, RawHandle::new(reply.value), Named::Registers)
            }
            Some(handle) if handle == reply.value => Ok(()),
            Some(handle) => Err(format!(
                "{:#x} names registers, as {handle:#x} does",
                reply.value
            )),
        }
    }
}
