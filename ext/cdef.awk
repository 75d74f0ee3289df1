# The public header as C string literals: `awk -f cdef.awk perigee.h > cdef.inc`, included by core.c.
# Only what stands between the lines "CDEF begin" and "CDEF end" is taken, word for word but for PG_API, which means
# nothing to LuaJIT. A line of the header is one element of an array, since ISO C bounds the length of a single literal.
# A header without both lines is an error: a module without declarations would only fail later and less clearly.

/\/\* CDEF begin \*\// { inside = 1; begun++; next }
/\/\* CDEF end \*\// { inside = 0; ended++; next }

inside {
    gsub(/PG_API /, "")
    gsub(/\\/, "&&")
    gsub(/"/, "\\\"")
    gsub(/\?\?/, "?\\?")
    print "\"" $0 "\\n\","
}

END {
    if (begun != 1 || ended != 1) {
        print "cdef.awk: expected one line \"CDEF begin\" and one \"CDEF end\" in the header" > "/dev/stderr"
        exit 1
    }
}
