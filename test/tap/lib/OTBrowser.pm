package OTBrowser;

# Chromium without a window, spoken to through a pair of pipes in its DevTools protocol, for pages of ours:
#
#   my $browser = OTBrowser->started($dir);           # its profile and its log are in there
#   my $page = $browser->page(width => 360, dark => 1);
#   $page->open("file://$file");
#   $page->evaluate('document.title');                # what can be written as JSON
#   $page->complaints;                                # errors and warnings of the console, and of the browser
#   $page->requests;                                  # the addresses that were asked for
#   $page->pdf, $page->screenshot($height);           # bytes
#
# It finds no host, so a page that needs the network fails.

use strict;
use warnings;

use JSON::PP;
use POSIX ();

my $PATIENCE = 120;
my @FLAGS = qw(--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
	--disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars --remote-debugging-pipe);

sub program {
	my ($found) = grep { -x } map { my $dir = $_; map { "$dir/$_" } qw(chromium chromium-browser) } split /:/, $ENV{PATH} . ':/usr/bin';
	return $found;
}

sub missing { return program() ? '' : 'there is no Chromium (Debian package chromium)' }

sub started {
	my ($class, $dir) = @_;
	mkdir $dir or die "$dir: $!\n";
	pipe my $its_input, my $to or die "pipe: $!\n";
	pipe my $from, my $its_output or die "pipe: $!\n";
	my $pid = fork() // die "fork: $!\n";
	if ($pid == 0) {
		# It reads from 3 and writes to 4. Numbers out of the way first: one of the pipes may have one of these.
		POSIX::dup2(fileno $its_input, 13);
		POSIX::dup2(fileno $its_output, 14);
		POSIX::dup2($_ + 10, $_) for 3, 4;
		POSIX::close($_) for 13, 14;
		open STDOUT, '>', "$dir/log" or POSIX::_exit(1);
		open STDERR, '>&', \*STDOUT or POSIX::_exit(1);
		$ENV{HOME} = $dir;
		exec { program() } program(), @FLAGS, '--host-resolver-rules=MAP * ~NOTFOUND', "--user-data-dir=$dir/profile", 'about:blank'
			or POSIX::_exit(1);
	}
	$to->autoflush(1);
	return bless { pid => $pid, to => $to, from => $from, unread => '', id => 0, pages => {} }, $class;
}

sub DESTROY {
	my ($self) = @_;
	local ($?, $@);
	eval { $self->call('Browser.close'); 1 } or kill 'KILL', $self->{pid};
	waitpid $self->{pid}, 0;
	return;
}

# The answer of a method; what happens meanwhile goes to its page.
sub call {
	my ($self, $method, $params, $session) = @_;
	my $id = ++$self->{id};
	my %message = (id => $id, method => $method, params => $params // {}, $session ? (sessionId => $session) : ());
	print { $self->{to} } encode_json(\%message), "\0" or die "chromium: $!\n";
	while (1) {
		my $answer = $self->next_message;
		next if !defined $answer->{id} || $answer->{id} != $id;
		die "$method: $answer->{error}{message}\n" if $answer->{error};
		return $answer->{result};
	}
}

sub next_message {
	my ($self) = @_;
	local $SIG{ALRM} = sub { die "chromium does not answer\n" };
	alarm $PATIENCE;
	while ($self->{unread} !~ /\0/) {
		sysread $self->{from}, $self->{unread}, 1 << 20, length $self->{unread} or die "chromium has ended\n";
	}
	alarm 0;
	(my $text, $self->{unread}) = split /\0/, $self->{unread}, 2;
	my $message = decode_json($text);
	my $page = $self->{pages}{ $message->{sessionId} // '' };
	push @{ $page->{events} }, $message if $page && $message->{method};
	return $message;
}

sub page {
	my ($self, %wanted) = @_;
	my $target = $self->call('Target.createTarget', { url => 'about:blank' })->{targetId};
	my $session = $self->call('Target.attachToTarget', { targetId => $target, flatten => JSON::PP::true })->{sessionId};
	my $page = bless { browser => $self, session => $session, events => [] }, 'OTBrowser::Page';
	$self->{pages}{$session} = $page;
	$page->call("$_.enable") for qw(Page Runtime Log Network);
	$page->call('Emulation.setDeviceMetricsOverride', { width => $wanted{width} // 1280, height => 900, deviceScaleFactor => 1,
		mobile => ($wanted{width} // 1280) < 600 ? JSON::PP::true : JSON::PP::false });
	$page->dark($wanted{dark});
	$page->call('Emulation.setScriptExecutionDisabled', { value => JSON::PP::true }) if $wanted{no_script};
	return $page;
}

package OTBrowser::Page;

use strict;
use warnings;

use JSON::PP;
use MIME::Base64 qw(decode_base64);

sub call { my ($self, $method, $params) = @_; return $self->{browser}->call($method, $params, $self->{session}) }

sub dark {
	my ($self, $dark, $media) = @_;
	return $self->call('Emulation.setEmulatedMedia', { media => $media // '',
		features => [ { name => 'prefers-color-scheme', value => $dark ? 'dark' : 'light' } ] });
}

sub open {    ## no critic (ProhibitBuiltinHomonyms)
	my ($self, $url) = @_;
	@{ $self->{events} } = ();
	$self->call('Page.navigate', { url => $url });
	$self->{browser}->next_message while !grep { $_->{method} eq 'Page.loadEventFired' } @{ $self->{events} };
	return;
}

sub evaluate {
	my ($self, $script) = @_;
	my $answer = $self->call('Runtime.evaluate', { expression => $script, returnByValue => JSON::PP::true, awaitPromise => JSON::PP::true });
	die "$script: $answer->{exceptionDetails}{exception}{description}\n" if $answer->{exceptionDetails};
	return $answer->{result}{value};
}

sub complaints {
	my ($self) = @_;
	my @found;
	for my $event (@{ $self->{events} }) {
		my ($method, $params) = @$event{qw(method params)};
		push @found, $params->{exceptionDetails}{exception}{description} // $params->{exceptionDetails}{text} if $method eq 'Runtime.exceptionThrown';
		push @found, "$params->{type}: " . encode_json($params->{args}) if $method eq 'Runtime.consoleAPICalled';
		push @found, $params->{entry}{text} if $method eq 'Log.entryAdded';
	}
	return \@found;
}

sub requests {
	my ($self) = @_;
	return [ map { $_->{params}{request}{url} } grep { $_->{method} eq 'Network.requestWillBeSent' } @{ $self->{events} } ];
}

sub pdf { my ($self) = @_; return decode_base64($self->call('Page.printToPDF', { printBackground => JSON::PP::true })->{data}) }

sub screenshot {
	my ($self, $height) = @_;
	my ($width, $full) = @{ $self->evaluate('[innerWidth, document.scrollingElement.scrollHeight]') };
	my %clip = (x => 0, y => 0, width => $width, height => $height // $full, scale => 1);
	return decode_base64($self->call('Page.captureScreenshot', { format => 'png', captureBeyondViewport => JSON::PP::true, clip => \%clip })->{data});
}

1;
