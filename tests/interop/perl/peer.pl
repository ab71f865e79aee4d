# Perl's Net::SMPP as message centre or ESME: told what to do by lines of JSON on stdin, tells what it sees by lines on
# stdout. The one argument is JSON: {role: "esme", port, bind, system_id, password}, or {role: "smsc", password, statuses,
# nacked, without_id}: the status for each number that is refused, and the numbers answered by generic_nack, and without
# an id.
use strict;
use warnings;

use Encode qw(decode encode);
use IO::Select;
use JSON::PP;
use Net::SMPP;

my %CODINGS = (0 => 'gsm0338', 8 => 'UTF-16BE');
my %READ = (receipted_message_id => 'Z*', message_state => 'C', sc_interface_version => 'C');
my @BINDS = (0x01, 0x02, 0x09);
my ($SUBMIT_SM, $DELIVER_SM, $UNBIND, $ENQUIRE_LINK, $RESPONSE) = (0x04, 0x05, 0x06, 0x15, 0x80000000);

my $settings = decode_json($ARGV[0]);
my @sessions;
my $ids = 0;
my $watched = IO::Select->new(\*STDIN);
my $listening;

$| = 1;
$SIG{__WARN__} = sub { print STDERR @_ };

sub tell_line { print encode_json($_[0]), "\n" }

sub text_of {
    my ($pdu, $octets) = @_;
    my $coding = $CODINGS{$pdu->{data_coding}};
    return $coding ? decode($coding, $octets) : unpack('H*', $octets);
}

sub describe {
    my ($at, $pdu) = @_;
    my %event = (connection => $at, command => $pdu->explain_cmd, status => $pdu->{status}, sequence => $pdu->{seq});
    my %skipped = map { $_ => 1 } qw(cmd status seq data reserved known_pdu short_message);
    for my $key (grep { !$skipped{$_} } keys %$pdu) {
        if (defined $Net::SMPP::param_by_name{$key}) {
            $event{tlvs}{$key} = unpack($READ{$key} // 'H*', $pdu->{$key});
        } elsif ($key =~ /^\d+$/) {
            $event{tlvs}{$key} = unpack('H*', $pdu->{$key}) unless defined Net::SMPP::param_tab->{$key};
        } else {
            $event{fields}{$key} = $pdu->{$key};
        }
    }
    if (defined $pdu->{short_message}) {
        my $octets = $pdu->{short_message};
        if ($pdu->{esm_class} & 0x40) {
            my $length = 1 + unpack('C', $octets);
            $event{udh} = unpack('H*', substr($octets, 0, $length));
            $octets = substr($octets, $length);
        }
        $event{text} = text_of($pdu, $octets);
    }
    return \%event;
}

sub bind_status {
    my ($pdu) = @_;
    my $wanted = $settings->{password};
    return defined $wanted && $pdu->{password} ne $wanted ? 0x0E : 0;
}

sub answer_submit {
    my ($session, $pdu, $event) = @_;
    my $status = $settings->{statuses}{$pdu->{destination_addr}} // 0;
    my $number = $pdu->{destination_addr};
    my $id = $status || $number eq $settings->{without_id} ? '' : sprintf('perl-%04d', ++$ids);
    $event->{message_id} = $id;
    tell_line($event);
    return $session->generic_nack(seq => $pdu->{seq}, status => 3) if $number eq $settings->{nacked};
    $session->submit_sm_resp(seq => $pdu->{seq}, status => $status, message_id => $id);
}

sub hear {
    my ($at) = @_;
    my $session = $sessions[$at];
    my $pdu = $session->read_pdu();
    return leave($at) unless defined $pdu;
    my $event = describe($at, $pdu);
    my $command = $pdu->{cmd};
    return answer_submit($session, $pdu, $event) if $command == $SUBMIT_SM;
    tell_line($event);
    if (grep { $_ == $command } @BINDS) {
        my $respond = $pdu->explain_cmd . '_resp';
        $session->$respond(seq => $pdu->{seq}, status => bind_status($pdu), system_id => 'perl');
    } elsif ($command == $DELIVER_SM) {
        $session->deliver_sm_resp(seq => $pdu->{seq}, message_id => '');
    } elsif ($command == $ENQUIRE_LINK) {
        $session->enquire_link_resp(seq => $pdu->{seq});
    } elsif ($command == $UNBIND) {
        $session->unbind_resp(seq => $pdu->{seq});
        leave($at);
    } elsif ($command == ($UNBIND | $RESPONSE)) {
        leave($at);
    }
}

sub leave {
    my ($at) = @_;
    $watched->remove($sessions[$at]);
    $sessions[$at]->close;
    tell_line({event => 'closed', connection => $at});
}

sub act {
    my $told = decode_json($_[0]);
    my $session = $sessions[$told->{connection} // $#sessions];
    my %fields = %{ $told->{fields} // {} };
    $fields{short_message} = pack('H*', $told->{octets}) if defined $told->{octets};
    $fields{short_message} = encode($CODINGS{$fields{data_coding} // 0}, $told->{text}) if defined $told->{text};
    $fields{short_message} = pack('H*', $told->{udh}) . $fields{short_message} if defined $told->{udh};
    my @tlvs = map { $_ => pack('H*', $told->{octet_tlvs}{$_}) } keys %{ $told->{octet_tlvs} // {} };
    my $method = $told->{do};
    $session->$method(async => 1, %fields, @tlvs);
}

sub add {
    my ($session) = @_;
    push @sessions, $session;
    $watched->add($session);
}

sub begin {
    if ($settings->{role} eq 'smsc') {
        $listening = Net::SMPP->new_listen('127.0.0.1', port => 0) or die "can't listen: $!";
        $watched->add($listening);
        tell_line({event => 'listening', port => $listening->sockport});
        return;
    }
    my $session = Net::SMPP->new_connect('127.0.0.1', port => $settings->{port}, async => 1) or die "can't connect: $!";
    add($session);
    my $bind = $settings->{bind};
    $session->$bind(system_id => $settings->{system_id}, password => $settings->{password});
}

begin();
my $typed = '';
while (1) {
    for my $ready ($watched->can_read) {
        if ($ready == \*STDIN) {
            sysread(STDIN, $typed, 65_536, length $typed) or exit 0;
            act($1) while $typed =~ s/^([^\n]*)\n//;
        } elsif ($listening && $ready == $listening) {
            add($listening->accept);
        } else {
            my ($at) = grep { $sessions[$_] == $ready } 0 .. $#sessions;
            hear($at);
        }
    }
}
