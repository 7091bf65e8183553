#!/usr/bin/perl
# A double of `qm` in front of a real QEMU: the verbs, exit codes and texts of Proxmox VE that afk-pve uses.
use strict;
use warnings;
use IO::Socket::UNIX;
use JSON::PP;

(my $home = $0) =~ s{/[^/]*$}{};
my ($vm, $guest, $run) = ('@VM@', '@GUEST@', "$home/run");
my $verb = $ARGV[0] // '';

open(my $calls, '>>', "$home/calls") or die "calls: $!\n";
print $calls "@ARGV\n";
close $calls;

# Whether QEMU's process has not ended.
sub alive {
    open(my $file, '<', "$run/$vm.pid") or return 0;
    my ($pid) = (<$file> // '') =~ /(\d+)/ or return 0;
    open(my $stat, '<', "/proc/$pid/stat") or return 0;
    return (<$stat> // '') =~ /\) [^ZX]/;
}

# Sends a command to QEMU's monitor, and returns its result. Dies if the monitor stays silent.
sub monitor {
    my ($seconds, $command, %arguments) = @_;
    local $SIG{ALRM} = sub { die "the monitor of VM $vm does not answer\n" };
    alarm $seconds;
    my $socket = IO::Socket::UNIX->new(Peer => "$run/$vm.qmp") or die "monitor of VM $vm: $!\n";
    my $answer;
    for my $request ({ execute => 'qmp_capabilities' }, { execute => $command, arguments => \%arguments }) {
        print $socket encode_json($request), "\n";
        # The greeting and events are no answers.
        do {
            my $line = <$socket> // die "the monitor of VM $vm has closed\n";
            $answer = decode_json($line);
        } until exists $answer->{return} or exists $answer->{error};
    }
    alarm 0;
    die "$answer->{error}{desc}\n" if $answer->{error};
    return $answer->{return};
}

sub start {
    # QEMU has no option -id, which Proxmox VE adds to it. Here `-id` is a name and the number a disk, so
    # that the command line contains both like that of Proxmox VE.
    chdir $home or die "$home: $!\n";
    for my $disk ($vm, 'disk') {
        open(my $file, '>>', $disk) or die "$disk: $!\n";
        truncate $file, 1 << 20 if -z $disk;
    }
    unlink "$run/$vm.pid", "$run/$vm.qmp";
    my $qemu = 'qemu-system-x86_64';
    if (-d "$guest/qemu") {
        $ENV{LD_LIBRARY_PATH} = join ':', map { "$guest/qemu/$_/x86_64-linux-gnu" } 'usr/lib', 'lib';
        $qemu = "$guest/qemu/usr/bin/$qemu";
    }
    exec $qemu, '-name', '-id', $vm, '-machine', 'pc,accel=tcg', '-m', '128',
        '-nodefaults', '-display', 'none',
        '-kernel', "$guest/vmlinuz", '-initrd', "$guest/initramfs", '-append', 'console=ttyS0 quiet',
        '-drive', 'file=disk,if=none,id=disk,format=raw', '-device', 'virtio-blk-pci,drive=disk',
        '-chardev', "file,id=serial,path=$home/serial,append=on", '-serial', 'chardev:serial',
        '-chardev', "file,id=firmware,path=$home/firmware,append=on", '-device', 'isa-debugcon,iobase=0x402,chardev=firmware',
        '-qmp', "unix:$run/$vm.qmp,server=on,wait=off", '-pidfile', "$run/$vm.pid", '-daemonize'
        or die "$qemu: $!\n";
}

if ($verb eq 'status') {
    # A VM whose monitor is silent reads running.
    my $word = alive() ? eval { monitor(1, 'query-status')->{status} } // 'running' : 'stopped';
    print "status: $word\n";
} elsif ($verb eq 'config') {
    print "name: devvm\nmemory: 128\nvirtio0: disk\n";
} elsif ($verb eq 'pending') {
    print "cur memory: 128\n";
} elsif ($verb eq 'agent') {
    die "QEMU guest agent is not running\n";
} elsif ($verb eq 'monitor') {
    chomp(my $line = <STDIN> // '');
    print "qm> $line\n", monitor(5, 'human-monitor-command', 'command-line' => $line);
} elsif ($verb eq 'reset') {
    monitor(5, 'system_reset');
} elsif ($verb eq 'stop') {
    # Proxmox VE sends signals after a minute, for which afk-pve does not wait.
    if (alive()) {
        monitor(60, 'quit');
        select(undef, undef, undef, 0.1) while alive();
    }
} elsif ($verb eq 'start') {
    if (alive()) {
        print STDERR "VM $vm already running\n";
        exit 255;
    }
    start();
} elsif ($verb ne 'unlock') {
    die "unknown command '$verb'\n";
}
