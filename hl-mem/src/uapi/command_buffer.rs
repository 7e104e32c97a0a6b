//! The command buffer ioctl (facts CB-1).

use core::mem::{offset_of, size_of};

use crate::context::Context;
use crate::handle::RawHandle;
use crate::port::Port;
use crate::profile::Asic;

use super::layout::assert_layout;
use super::{Errno, malformed};

/// Makes a command buffer.
pub const OP_CREATE: u32 = 0;
/// Destroys one.
pub const OP_DESTROY: u32 = 1;
/// Tells about one.
pub const OP_INFO: u32 = 2;

/// CREATE: map it for the user's engines.
pub const FLAG_MAP: u32 = 0x1;
/// INFO: where it is mapped, not how often it is used.
pub const FLAG_DEVICE_ADDRESS: u32 = 0x2;

/// What user space passes in. All fields are in the processor's byte order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(C)]
pub struct CommandBufferInput {
    /// The buffer that DESTROY and INFO are about; zero for CREATE.
    pub handle: u64,
    /// Which operation.
    pub op: u32,
    /// Bytes of the buffer that CREATE makes; zero for the others.
    pub size: u32,
    /// Ignored, as the C driver does.
    pub context_id: u32,
    /// `FLAG_*` bits.
    pub flags: u32,
}

assert_layout!(CommandBufferInput of 24 bytes {
    handle: 8 at 0,
    op: 4 at 8,
    size: 4 at 12,
    context_id: 4 at 16,
    flags: 4 at 20,
});

impl CommandBufferInput {
    /// Bytes of the structure.
    pub const BYTES: usize = size_of::<Self>();

    /// The structure in these bytes; `None` where there are not exactly as many as it has.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        let (handle, fields) = bytes.split_first_chunk()?;
        let mut fields = fields.as_chunks().0.iter().copied().map(u32::from_ne_bytes);
        Some(Self {
            handle: u64::from_ne_bytes(*handle),
            op: fields.next()?,
            size: fields.next()?,
            context_id: fields.next()?,
            flags: fields.next()?,
        })
    }

    /// The bytes of the structure.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let (handle, rest) = bytes.split_at_mut(offset_of!(Self, op));
        if let Some(handle) = handle.first_chunk_mut() {
            *handle = self.handle.to_ne_bytes();
        }
        let fields = [self.op, self.size, self.context_id, self.flags];
        for (chunk, field) in rest.as_chunks_mut::<4>().0.iter_mut().zip(fields) {
            *chunk = field.to_ne_bytes();
        }
        bytes
    }
}

/// What user space gets back: a handle, a device address, or in the first four bytes the number of
/// uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(C)]
pub struct CommandBufferOutput {
    /// All eight bytes as one number.
    pub value: u64,
}

assert_layout!(CommandBufferOutput of 8 bytes {
    value: 8 at 0,
});

impl CommandBufferOutput {
    /// Bytes of the structure.
    pub const BYTES: usize = size_of::<Self>();

    const fn uses(uses: u32) -> Self {
        let [a, b, c, d] = uses.to_ne_bytes();
        Self {
            value: u64::from_ne_bytes([a, b, c, d, 0, 0, 0, 0]),
        }
    }

    /// The bytes of the structure.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; Self::BYTES] {
        self.value.to_ne_bytes()
    }
}

/// Carries out a command buffer request of the process that has `context` open.
///
/// # Errors
///
/// `EINVAL` for bytes that are no [`CommandBufferInput`], whatever the device does; for an unknown operation,
/// flags that the operation does not have, and fields that it does not have and that are not zero, unless the
/// device is of no use to this file, which is then the answer; and for the address of a buffer that is not
/// mapped. What the operation's own error becomes: see the `From` implementations of [`Errno`].
pub fn dispatch_command_buffer<A: Asic, P: Port>(
    context: &Context<'_, '_, A, P>,
    bytes: &[u8],
) -> Result<CommandBufferOutput, Errno> {
    let input = CommandBufferInput::from_bytes(bytes).ok_or(Errno::EINVAL)?;
    let handle = RawHandle::new(input.handle);
    let has = |flag| input.flags & flag != 0;
    let only = |allowed: u32| match input.flags & !allowed {
        0 => Ok(()),
        _ => Err(malformed(context)),
    };
    let without = |unused: u64| match unused {
        0 => Ok(()),
        _ => Err(malformed(context)),
    };
    match input.op {
        OP_CREATE => {
            only(FLAG_MAP)?;
            without(input.handle)?;
            let handle = context.create_command_buffer(input.size.into(), has(FLAG_MAP))?;
            Ok(CommandBufferOutput {
                value: handle.get(),
            })
        }
        OP_DESTROY => {
            only(0)?;
            without(input.size.into())?;
            context.destroy_command_buffer(handle)?;
            Ok(CommandBufferOutput::default())
        }
        OP_INFO => {
            only(FLAG_DEVICE_ADDRESS)?;
            without(input.size.into())?;
            // It needs no device, and is refused as all that is not a way of giving back (facts CB-1).
            context.usable()?;
            let info = context.command_buffer(handle)?;
            if !has(FLAG_DEVICE_ADDRESS) {
                return Ok(CommandBufferOutput::uses(info.uses));
            }
            // Facts CB-7.
            let at = info.mapped_at.ok_or(Errno::EINVAL)?;
            Ok(CommandBufferOutput { value: at.get() })
        }
        _ => Err(malformed(context)),
    }
}
