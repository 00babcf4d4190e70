set -eu
cat >/etc/exim4/update-exim4.conf.conf <<'CONF'
dc_eximconfig_configtype='internet'
dc_other_hostnames=''
dc_local_interfaces=''
dc_readhost=''
dc_relay_domains=''
dc_minimaldns='false'
dc_relay_nets=''
dc_smarthost=''
CFILEMODE='644'
dc_use_split_config='false'
dc_hide_mailname=''
dc_mailname_in_oh='true'
dc_localdelivery='maildir_home'
CONF
# Nobody waits for a name server that is not there.
cat >/etc/exim4/exim4.conf.localmacros <<'CONF'
MAIN_HOST_LOOKUP = 127.0.0.1
DISABLE_IPV6 = true
CONF
echo localhost >/etc/mailname
update-exim4.conf
