//! Reads the arguments of a program as getopt does: clusters of short options, attached and separate
//! values, abbreviated long options.

/// The options of a program that take a value. All others are read as flags.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ValueOptions {
    /// The letters of short options.
    pub(super) short: &'static str,
    /// The long options, without `--`.
    pub(super) long: &'static [&'static str],
}

/// One argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Argument<'a> {
    Short(char, Option<&'a str>),
    /// The name as written, which may be an abbreviation, without `--`.
    Long(&'a str, Option<&'a str>),
    Operand(&'a str),
}

impl<'a> Argument<'a> {
    /// The value of the option that has this letter or this long name, also abbreviated.
    pub(super) fn value_of(self, letter: char, long: &str) -> Option<&'a str> {
        match self {
            Self::Short(found, value) if found == letter && letter != '\0' => value,
            Self::Long(found, value) if abbreviates(found, long) => value,
            _ => None,
        }
    }

    /// Whether this is the option that has this letter or this long name, also abbreviated.
    pub(super) fn is_option(self, letter: char, long: &str) -> bool {
        match self {
            Self::Short(found, _) => found == letter,
            Self::Long(found, _) => abbreviates(found, long),
            Self::Operand(_) => false,
        }
    }

    pub(super) const fn operand(self) -> Option<&'a str> {
        match self {
            Self::Operand(text) => Some(text),
            Self::Short(..) | Self::Long(..) => None,
        }
    }
}

/// Whether `found` is a long option's name or an abbreviation of it. Three letters are the shortest
/// abbreviation: a shorter one is ambiguous in nearly every program.
pub(super) fn abbreviates(found: &str, long: &str) -> bool {
    found == long || (found.len() > 2 && long.starts_with(found))
}

/// Reads all arguments; options may follow operands.
pub(super) fn read<'a>(args: &[&'a str], values: ValueOptions) -> Vec<Argument<'a>> {
    read_until(args, values, usize::MAX).0
}

/// Reads the arguments up to `operands` operands, and returns the number of arguments that were
/// read.
pub(super) fn read_until<'a>(
    args: &[&'a str],
    values: ValueOptions,
    operands: usize,
) -> (Vec<Argument<'a>>, usize) {
    read_while(args, values, operands, |_| true)
}

/// Reads the arguments as [`read_until`] does, and stops after one that `goes_on` refuses.
pub(super) fn read_while<'a>(
    args: &[&'a str],
    values: ValueOptions,
    operands: usize,
    goes_on: impl Fn(&Argument<'a>) -> bool,
) -> (Vec<Argument<'a>>, usize) {
    let mut all = Vec::new();
    let (mut at, mut found, mut ended) = (0, 0, false);
    while let Some(arg) = args.get(at).copied() {
        if all.last().is_some_and(|last| !goes_on(last)) {
            break;
        }
        let option = !ended && arg.len() > 1 && arg.starts_with('-');
        if !option && found == operands {
            break;
        }
        at += 1;
        if !option {
            found += 1;
            all.push(Argument::Operand(arg));
        } else if arg == "--" {
            ended = true;
        } else if let Some(long) = arg.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None if values.long.iter().any(|option| abbreviates(long, option)) => {
                    let value = args.get(at).copied();
                    at += 1;
                    (long, value)
                }
                None => (long, None),
            };
            all.push(Argument::Long(name, value));
        } else {
            for (start, letter) in arg.char_indices().skip(1) {
                if values.short.contains(letter) {
                    let attached = &arg[start + letter.len_utf8()..];
                    let value = if attached.is_empty() {
                        at += 1;
                        args.get(at - 1).copied()
                    } else {
                        Some(attached)
                    };
                    all.push(Argument::Short(letter, value));
                    break;
                }
                all.push(Argument::Short(letter, None));
            }
        }
    }
    (all, at.min(args.len()))
}
