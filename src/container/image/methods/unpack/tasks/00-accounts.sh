# What packages that are only unpacked lack: folders, applets, the linker's cache, accounts.
# $USERS is a file of "name:password" lines.
set -eu
b=/bin/busybox
$b mkdir -p /bin /sbin /usr/bin /usr/sbin /root /home /tmp /run /proc /sys /dev /mnt /opt /srv \
    /etc/dropbear /var/log /var/tmp /var/mail /var/www /usr/local/bin /usr/local/sbin
$b chmod 1777 /tmp /var/tmp
$b chmod 700 /root
[ -e /var/run ] || $b ln -s /run /var/run
for applet in $($b --list); do
    # An applet never hides a program of a package.
    for dir in /bin /sbin /usr/bin /usr/sbin; do
        [ -e "$dir/$applet" ] && continue 2
    done
    $b ln -s /bin/busybox "/bin/$applet"
done
[ -e /sbin/init ] || $b ln -s /bin/busybox /sbin/init

# Libraries that the packages' own scripts, which are not run, would choose among.
for lib in /usr/lib/*/blas/lib*.so.? /usr/lib/*/lapack/lib*.so.?; do
    link=${lib%/*/*}/${lib##*/}
    [ ! -e "$lib" ] || [ -e "$link" ] || $b ln -s "$lib" "$link"
done

# Where libraries are: without it every program that starts looks for them in a hundred directories.
/sbin/ldconfig

uid=1000
while IFS= read -r line; do
    name=${line%%:*} password=${line#*:}
    hash=$(printf '%s' "$password" | $b mkpasswd -m sha512 -P 0)
    if ! $b grep -q "^$name:" /etc/passwd; then
        echo "$name:x:$uid:$uid:$name:/home/$name:/bin/sh" >>/etc/passwd
        echo "$name:x:$uid:" >>/etc/group
        $b mkdir -p "/home/$name"
        $b chown "$uid:$uid" "/home/$name"
        uid=$((uid + 1))
    fi
    { $b grep -v "^$name:" /etc/shadow; echo "$name:$hash:19700:0:99999:7:::"; } >/etc/shadow.new
    $b mv /etc/shadow.new /etc/shadow
done <"$USERS"
$b chown 0:42 /etc/shadow
$b chmod 640 /etc/shadow
