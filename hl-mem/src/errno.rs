//! Error numbers: what a process is told, in the end.

use core::fmt;
use core::num::NonZeroU16;

/// An error number of the kernel's interface to user space; positive.
///
/// The constants are the ones that this crate tells. A port, which has reasons of its own, makes those that
/// it tells:
///
/// ```
/// use hl_mem::uapi::Errno;
///
/// const ENFILE: Errno = Errno::new(23).unwrap();
/// assert_eq!((ENFILE.get(), ENFILE.to_string().as_str()), (23, "errno 23"));
/// assert_eq!(Errno::new(22), Some(Errno::EINVAL));
/// // What `-1` of a pointer that is an error can be is as much as there is.
/// assert_eq!((Errno::new(0), Errno::new(4096)), (None, None));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Errno(NonZeroU16);

/// The largest that Linux has room for: in a pointer, the addresses of its last page are errors.
const MAX: u16 = 4095;

impl Errno {
    /// Operation not permitted.
    pub const EPERM: Self = Self::known(1);
    /// Interrupted by a signal.
    pub const EINTR: Self = Self::known(4);
    /// Input or output error.
    pub const EIO: Self = Self::known(5);
    /// Try again.
    pub const EAGAIN: Self = Self::known(11);
    /// Not enough memory.
    pub const ENOMEM: Self = Self::known(12);
    /// Bad address.
    pub const EFAULT: Self = Self::known(14);
    /// Device or resource busy.
    pub const EBUSY: Self = Self::known(16);
    /// No such device.
    pub const ENODEV: Self = Self::known(19);
    /// Invalid argument.
    pub const EINVAL: Self = Self::known(22);
    /// Too many open files of the process.
    pub const EMFILE: Self = Self::known(24);
    /// Operation not supported.
    pub const EOPNOTSUPP: Self = Self::known(95);
    /// The device did not answer in time.
    pub const ETIMEDOUT: Self = Self::known(110);

    /// The error with a number from 1 to 4095; `None` for others, which are none.
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        match NonZeroU16::new(number) {
            Some(number) if number.get() <= MAX => Some(Self(number)),
            _ => None,
        }
    }

    const fn known(number: u16) -> Self {
        match Self::new(number) {
            Some(errno) => errno,
            None => panic!("a constant of this crate is in range"),
        }
    }

    /// The number, as user space compares it with `errno`.
    #[must_use]
    pub const fn get(self) -> i32 {
        self.0.get() as i32
    }

    /// The name that C gives the number; `None` where this crate has no constant for it.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::EPERM => "EPERM",
            Self::EINTR => "EINTR",
            Self::EIO => "EIO",
            Self::EAGAIN => "EAGAIN",
            Self::ENOMEM => "ENOMEM",
            Self::EFAULT => "EFAULT",
            Self::EBUSY => "EBUSY",
            Self::ENODEV => "ENODEV",
            Self::EINVAL => "EINVAL",
            Self::EMFILE => "EMFILE",
            Self::EOPNOTSUPP => "EOPNOTSUPP",
            Self::ETIMEDOUT => "ETIMEDOUT",
            _ => return None,
        })
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.get()),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for Errno {}
